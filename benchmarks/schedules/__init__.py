"""Schedules and restarts of transitions, judged on the demo."""
