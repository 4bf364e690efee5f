"""Training of a small Gemma-3 on captions."""
