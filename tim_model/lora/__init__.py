"""LoRA files: reading, merging and writing, names of layers, facts."""
