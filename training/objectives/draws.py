"""Random numbers of a training step.

Every number is a pure function of (seed, step, row) with row the position in the step's global batch: how the batch is
split over processes or accumulated does not change it. The counter-based generator (Philox) has no state.

Bit-exact or up to rounding:

- Noise, times, roles, dropped conditions and the order of samples are bit-exact functions of (seed, step, row), however
  the batch is split. Vectorized float32 functions (exp, sigmoid, atan, pow) round the last elements of a tensor
  differently from the others on some processors, so that times are computed number by number in float64 and rounded
  once. On other processors and other math libraries they agree to rounding.
- A run that resumes on the same machine, with as many processes, passes and threads, continues bit for bit.
- Losses, gradients, weights and encoded latents of another split (processes, `optimizer.accumulation`), of another
  processor or of another number of threads agree to rounding: sums are taken in another order, and matrix products of
  other shapes round differently.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


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
