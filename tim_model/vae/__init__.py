"""The autoencoder between images and latents, whole or in tiles."""
