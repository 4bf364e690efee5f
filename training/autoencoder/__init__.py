"""Training of a small DC-AE."""
