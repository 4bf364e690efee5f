"""Fits the preview colors of a VAE's latents."""
