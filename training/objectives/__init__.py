"""Objectives: times, derivatives, losses."""
