"""What sweeps over numbers of steps have in common: their settings, what runs cost, and the labeled images of them."""
