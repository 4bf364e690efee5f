"""Solvers of flow-matching velocities at equal network calls."""
