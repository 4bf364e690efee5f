"""Processes and how they end: commands, signals, locks, work shared by several."""
