"""Seeded noise, drawn on the CPU: the same images on every device, and as ComfyUI for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def draw_noise(shape: Sequence[int], seed: int) -> Tensor:
    """Gaussian noise of that shape, the start of sampling; float32 on the CPU."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def noise_stream(seed: int) -> Callable[[Tensor], Tensor]:
    """A `noise_fn` for stochastic steps: fresh noise like its argument at each call.

    It is seeded with seed + 1, so that the first draw is not the noise that sampling started from.
    """
    generator = torch.Generator().manual_seed((seed + 1) % 2**64)
    return lambda x: torch.randn(x.shape, generator=generator).to(x)


def image_noise_stream(seed: int) -> Callable[[Tensor], Tensor]:
    """A `noise_fn` in which each image of a batch has a stream of its own, whatever the number of the others."""
    generators: list[torch.Generator] = []

    def draw(x: Tensor) -> Tensor:
        while len(generators) < len(x):
            own = (seed + 1 + 0x9E3779B97F4A7C15 * len(generators)) % 2**64
            generators.append(torch.Generator().manual_seed(own))
        return torch.stack([torch.randn(x.shape[1:], generator=g) for g, _ in zip(generators, x)]).to(x)

    return draw
