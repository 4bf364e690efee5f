"""A training run: the loop, one step, reports."""
