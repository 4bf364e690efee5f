"""Colors of latents: the linear map from latent channels to RGB that previews use."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor, from_numpy


def latent_rgb_factors(latents: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """The least-squares map from latent cells to the mean color of their pixels, latent @ factors + bias.

    Args:
        latents: (N,C,h,w), scaled as the network has them.
        images: (N,3,H,W) in [-1, 1].

    Returns:
        factors (C,3) and bias (3,), float32, on the CPU.

    Raises:
        ValueError: not as many images as latents, no more cells than channels, or values that are not finite.
    """
    x, rgb = cells(latents), cells(mean_colors(images, latents.shape[-2:]))
    if len(x) != len(rgb):
        raise ValueError(f"got {len(latents)} latents and {len(images)} images, expected as many of both")
    if len(x) <= latents.shape[1]:
        raise ValueError(
            f"got {len(x)} latent cells of {latents.shape[1]} channels, expected more cells; use more images"
        )
    if not np.isfinite(x).all() or not np.isfinite(rgb).all():
        raise ValueError("latents or images hold NaN or infinite values, expected finite ones")
    solution = np.linalg.lstsq(np.c_[x, np.ones(len(x))], rgb)[0].astype(np.float32)
    return from_numpy(solution[:-1]), from_numpy(solution[-1])


def explained_variance(latents: Tensor, images: Tensor, factors: Tensor, bias: Tensor) -> float:
    """R² of the colors that factors and bias make of latents: 1 is exact, 0 as bad as one mean color."""
    rgb = cells(mean_colors(images, latents.shape[-2:]))
    residual = rgb - cells(latents) @ factors.numpy() - bias.numpy()
    return float(1 - (residual**2).sum() / ((rgb - rgb.mean(0)) ** 2).sum())


def mean_colors(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (N,3,H,W) averaged over the area of each of (h,w) cells."""
    return F.interpolate(images.float(), tuple(size), mode="area")


def cells(x: Tensor) -> np.ndarray:
    """(N,C,h,w) -> (N·h·w, C) in double precision, so on the CPU."""
    return x.float().cpu().movedim(1, -1).flatten(0, -2).numpy().astype(np.float64)
