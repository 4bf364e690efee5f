"""Parts of a run: network, latent space, encoders."""
