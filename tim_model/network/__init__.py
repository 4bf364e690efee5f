"""The network F(x_t, t, r), its parts, its parameters, and the latent space that it draws in."""
