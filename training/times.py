"""Random numbers of a training step, and the times (t, r) made of them.

Every number is a pure function of (seed, step, row) with row the position in the step's global batch: how the batch is
split over processes or accumulated does not change it. A counter-based generator (Philox) needs no state to get there.

Which equalities hold bit for bit, and which to rounding:

- Noise, times, roles, dropped conditions and the order of samples are bit for bit those of (seed, step, row), however
  the batch is split. Vectorized float32 functions (exp, sigmoid, atan, pow) round the last elements of a tensor
  differently from the others on some processors, so that times are computed number by number in float64 and rounded
  once. On other processors and other math libraries they agree to rounding.
- A run that resumes on the same machine, with as many processes, passes and threads, goes on bit for bit.
- Losses, gradients, weights and encoded latents of another split (processes, `optimizer.accumulation`), of another
  processor or of another number of threads agree to rounding: sums are taken in another order, and matrix products of
  other shapes round differently.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tim_model.schedule import shifted
from tim_model.transport import TRANSPORTS, Transport, get_transport


@dataclass(frozen=True)
class Draws:
    """Random numbers for some rows of one step's global batch, float32 on the CPU; streams of other names differ."""

    seed: int
    step: int
    rows: Sequence[int]

    def normal(self, stream: str, shape: Sequence[int] = ()) -> Tensor:
        """Standard normal numbers (len(rows), *shape)."""
        return self._draw(stream, lambda generator: generator.standard_normal(tuple(shape), np.float32))

    def uniform(self, stream: str, shape: Sequence[int] = ()) -> Tensor:
        """Numbers uniform in [0, 1), (len(rows), *shape)."""
        return self._draw(stream, lambda generator: generator.random(tuple(shape), np.float32))

    def _draw(self, stream: str, draw: Callable[[np.random.Generator], np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(draw(self._generator(stream, row))) for row in self.rows]))

    def _generator(self, stream: str, row: int) -> np.random.Generator:
        key = [self.seed, zlib.crc32(stream.encode())]
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, row, self.step]))


def exp(z: float) -> float:
    return math.exp(min(z, 700.0))  # beyond it float64 overflows; times are clamped far below


def logit_normal(z: float, path: Transport) -> float:
    return 1 / (1 + exp(-z))


def arctangent(z: float, path: Transport) -> float:
    return math.atan(exp(z))


def log_normal(z: float, path: Transport) -> float:
    return exp(z)


def uniform(u: float, path: Transport) -> float:
    return path.T_min + (path.T_max - path.T_min) * u


def log_uniform(u: float, path: Transport) -> float:
    return path.T_min * (path.T_max / path.T_min) ** u


@dataclass(frozen=True)
class Distribution:
    """Times as `warp` of Normal(P_mean, P_std), or of uniform numbers where those are None."""

    warp: Callable[[float, Transport], float]
    P_mean: float | None = None
    P_std: float | None = None


DISTRIBUTIONS: dict[str, Distribution] = {
    "ot_fm": Distribution(logit_normal, 0.0, 1.6),  # class models were trained with -0.4 and 1.0
    "trigflow": Distribution(arctangent, -1.0, 1.6),
    "edm": Distribution(log_normal, -1.2, 1.2),
    "vp": Distribution(uniform),
    "ve": Distribution(log_uniform),
}


@dataclass(frozen=True)
class TimeSettings:
    """How t and r are drawn; the defaults are those of the released text model.

    Raises:
        ValueError: an unknown transport, or a value out of range.
    """

    transport: str = "ot_fm"
    P_mean: float | None = None  # None: the transport's own; vp and ve draw uniform numbers and use neither
    P_std: float | None = None
    diffusion_ratio: float = 0.5  # share of the global batch, its first rows, with r = t
    consistency_ratio: float = 0.1  # share, its last rows, with r = T_min
    shift_base: int | None = None  # tokens of the size whose times are not shifted; None for no shift at all

    def __post_init__(self):
        get_transport(self.transport)
        if min(self.diffusion_ratio, self.consistency_ratio) < 0 or self.diffusion_ratio + self.consistency_ratio > 1:
            raise ValueError(
                f"diffusion_ratio={self.diffusion_ratio} and consistency_ratio={self.consistency_ratio}: expected "
                "shares of the batch, from 0 and at most 1 together"
            )
        if self.P_std is not None and not self.P_std > 0:
            raise ValueError(f"P_std={self.P_std}: expected a number above 0")
        if self.shift_base is not None and (self.transport != "ot_fm" or self.shift_base < 1):
            raise ValueError(f"shift_base={self.shift_base}: expected a number of tokens from 1, on ot_fm only")


def draw_times(
    draws: Draws, batch_size: int, settings: TimeSettings = TimeSettings(), tokens: int | None = None
) -> tuple[Tensor, Tensor]:
    """(t, r), both (len(rows),), float32, T_min <= r <= t <= T_max.

    Two draws each, t the larger; then the row's place in the global batch may set r (arXiv 2509.04394, section 3.3).

    Args:
        batch_size: rows of the global batch.
        tokens: of these samples, for the shift by resolution.
    """
    path, rows = TRANSPORTS[settings.transport], torch.tensor(list(draws.rows))
    times = draw_pairs(draws, settings)
    if settings.shift_base is not None:
        if tokens is None:
            raise ValueError(f"shift_base={settings.shift_base} needs the number of tokens of these samples")
        times = shifted(times, math.sqrt(tokens / settings.shift_base))  # arXiv 2403.03206, eq. 23
    times = times.clamp(path.T_min, path.T_max).float()
    t, r = times.amax(dim=1), times.amin(dim=1)
    diffusion, consistency = roles(draws, batch_size, settings)
    r = torch.where(rows < diffusion, t, r)
    r = torch.where(rows >= consistency, path.T_min, r)
    return t, r


def roles(draws: Draws, batch_size: int, settings: TimeSettings) -> tuple[int, int]:
    """The rows of a step's global batch before the first bound get r = t, those from the second bound on r = T_min.

    Both bounds are the shares of the batch, rounded down after the step's own number in [0, 1) is added: whole
    products stay as they are (the first 50% and the last 10%, as released), others are right on average over steps,
    down to a batch of one. The number is the same for both bounds and all rows, so that no row gets both.
    """
    offset = float(replace(draws, rows=[0]).uniform("roles"))
    diffusion = settings.diffusion_ratio * batch_size
    consistency = batch_size - settings.consistency_ratio * batch_size
    # nine decimals: 0.7 of 10 rows are 7, not 7 - 1e-15
    return math.floor(round(diffusion, 9) + offset), math.floor(round(consistency, 9) + offset)


def draw_pairs(draws: Draws, settings: TimeSettings) -> Tensor:
    """Two independent times per row (len(rows), 2), float64 on the CPU, before roles, shift and clamping."""
    path, distribution = TRANSPORTS[settings.transport], DISTRIBUTIONS[settings.transport]
    if distribution.P_std is None:
        numbers = draws.uniform("times", (2,)).tolist()
    else:
        mean = distribution.P_mean if settings.P_mean is None else settings.P_mean
        std = distribution.P_std if settings.P_std is None else settings.P_std
        numbers = [[mean + std * z for z in pair] for pair in draws.normal("times", (2,)).tolist()]
    pairs = [[distribution.warp(number, path) for number in pair] for pair in numbers]
    return torch.tensor(pairs, dtype=torch.float64)
