"""The times (t, r) of a training step from its random numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from tim_model.sampling.schedule import shifted
from tim_model.sampling.transport import TRANSPORTS

from ..config.schema import ObjectiveConfig
from .draws import Draws


def draw_times(
    draws: Draws, batch_size: int, config: ObjectiveConfig, tokens: int | None = None
) -> tuple[Tensor, Tensor]:
    """(t, r), both (len(rows),), float32, T_min <= r <= t <= T_max.

    Two draws each, t the larger; then the row's place in the global batch may set r (arXiv 2509.04394, section 3.3).

    Args:
        batch_size: rows of the global batch.
        tokens: per sample, for the shift by resolution.
    """
    path, rows = TRANSPORTS[config.transport], torch.tensor(list(draws.rows))
    times = draw_pairs(draws, config)
    if config.shift_base is not None:
        if tokens is None:
            raise ValueError(f"shift_base={config.shift_base} needs the number of tokens of these samples")
        times = shifted(times, math.sqrt(tokens / config.shift_base))  # arXiv 2403.03206, eq. 23
    times = times.clamp(path.T_min, path.T_max).float()
    t, r = times.amax(dim=1), times.amin(dim=1)
    diffusion, consistency = roles(draws, batch_size, config)
    r = torch.where(rows < diffusion, t, r)
    r = torch.where(rows >= consistency, path.T_min, r)
    return t, r


def roles(draws: Draws, batch_size: int, config: ObjectiveConfig) -> tuple[int, int]:
    """The rows of a step's global batch before the first bound get r = t, those from the second bound on r = T_min.

    Both bounds are the shares of the batch, rounded down after the step's own number in [0, 1) is added: whole
    products stay as they are (the first 50% and the last 10%, as released), others are right on average over steps,
    down to a batch of one. The number is the same for both bounds and all rows, so that no row gets both.
    """
    offset = float(replace(draws, rows=[0]).uniform("roles"))
    diffusion = config.diffusion_ratio * batch_size
    consistency = batch_size - config.consistency_ratio * batch_size
    # nine decimals: 0.7 of 10 rows are 7, not 7 - 1e-15
    return math.floor(round(diffusion, 9) + offset), math.floor(round(consistency, 9) + offset)


def draw_pairs(draws: Draws, config: ObjectiveConfig) -> Tensor:
    """Two independent times per row (len(rows), 2), float64 on the CPU, before roles, shift and clamping."""
    path = TRANSPORTS[config.transport]
    if path.P_std is None:
        numbers = draws.uniform("times", (2,)).tolist()
    else:
        mean = path.P_mean if config.P_mean is None else config.P_mean
        std = path.P_std if config.P_std is None else config.P_std
        numbers = [[mean + std * z for z in pair] for pair in draws.normal("times", (2,)).tolist()]
    pairs = [[path.time_of(number) for number in pair] for pair in numbers]
    return torch.tensor(pairs, dtype=torch.float64)
