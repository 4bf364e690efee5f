"""The host's MODEL, CLIP, VAE, GUIDER and SAMPLER for TiM."""
