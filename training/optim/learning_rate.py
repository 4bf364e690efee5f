"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from ..config.schema import OptimizerConfig
from .optimizer import scaled_lr


def learning_rate(config: OptimizerConfig, step: int, steps: int, batch_size: int) -> float:
    """The rate of a step (from 0): a linear warm-up, then constant, or half a cosine down to 0 after `steps`."""
    lr = scaled_lr(config.lr, batch_size, config.lr_batch or batch_size)
    if step < config.warmup:
        return lr * (step + 1) / config.warmup
    if config.schedule == "constant":
        return lr
    progress = (step - config.warmup) / max(1, steps - config.warmup)
    return lr * (1 + math.cos(math.pi * min(1.0, progress))) / 2
