"""Hooks around every sampling run, for all sampler nodes."""
