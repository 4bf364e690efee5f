"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from ..config.schema import OptimizerConfig
from .optimizer import scaled_lr


def learning_rate(config: OptimizerConfig, step: int, steps: int, batch_size: int) -> float:
    """The rate of a step (from 0): a linear warm-up, then the schedule, which ends after `steps`.

    All schedules but the constant one fall from the whole rate to 0, `config.num_cycles` times.
    """
    lr = scaled_lr(config.lr, batch_size, config.lr_batch or batch_size)
    if step < config.warmup:
        return lr * (step + 1) / config.warmup
    whole = max(1, steps - config.warmup)
    done = min(step - config.warmup, whole)
    # in whole numbers, so that a cycle begins at its own step
    progress = 1.0 if done == whole else done * config.num_cycles % whole / whole
    if config.schedule == "constant":
        return lr
    if config.schedule == "cosine":
        return lr * (1 + math.cos(math.pi * progress)) / 2
    return lr * (1 - progress) ** (config.power if config.schedule == "polynomial" else 1)
