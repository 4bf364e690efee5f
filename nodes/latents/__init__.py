"""Latent formats of the host, and empty latents."""
