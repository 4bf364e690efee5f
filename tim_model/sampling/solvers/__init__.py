"""Solvers of dx/dt = F(x, t) for flow-matching velocities, to compare with TiM's transitions."""
