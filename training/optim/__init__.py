"""The optimizer, its schedule, the average of the weights, LoRA layers."""
