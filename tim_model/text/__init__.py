"""Gemma-3 text features: the encoder, its files, its tokenizer."""
