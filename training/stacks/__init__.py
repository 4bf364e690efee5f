"""The stages that train the demo stacks from scratch."""
