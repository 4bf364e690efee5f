"""Seeded noise, drawn on the CPU: the same images on every device, and as ComfyUI for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Seed = int | tuple[int, ...]  # of a batch, or one for each of its images, which then are those of their seeds alone


def draw_noise(shape: Sequence[int], seed: Seed) -> Tensor:
    """Gaussian noise of that shape, the start of sampling; float32 on the CPU."""
    if isinstance(seed, tuple):
        return torch.cat([draw_noise((1, *shape[1:]), own) for own in seed])
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def noise_stream(seed: Seed) -> Callable[[Tensor], Tensor]:
    """A `noise_fn` for stochastic steps: fresh noise like its argument at each call.

    It is seeded with seed + 1, so that the first draw is not the noise that sampling started from.
    """
    if isinstance(seed, tuple):
        streams = [noise_stream(own) for own in seed]
        return lambda x: torch.cat([draw(row) for draw, row in zip(streams, x.split(1), strict=True)])
    generator = torch.Generator().manual_seed((seed + 1) % 2**64)
    return lambda x: torch.randn(x.shape, generator=generator).to(x)


def image_noise_stream(seed: Seed) -> Callable[[Tensor], Tensor]:
    """A `noise_fn` in which each image of a batch has a stream of its own, whatever the number of the others."""
    if isinstance(seed, tuple):
        return noise_stream(seed)
    generators: list[torch.Generator] = []

    def draw(x: Tensor) -> Tensor:
        while len(generators) < len(x):
            own = (seed + 1 + 0x9E3779B97F4A7C15 * len(generators)) % 2**64
            generators.append(torch.Generator().manual_seed(own))
        return torch.stack([torch.randn(x.shape[1:], generator=g) for g, _ in zip(generators, x)]).to(x)

    return draw
