"""Labeled images of sweeps: a column for each number of steps, and several sweeps below each other."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...tim_model.images import grid, stack, to_pictures
from .meter import Cost

READABLE = 128  # pixels: smaller images are enlarged in the grid, so that their labels fit


def label(steps: int, cost: Cost) -> str:
    """The two lines above a column: "4 steps" and "7 calls, 0.83 s"."""
    calls, seconds = round(cost.calls, 1), f"{cost.seconds:.{0 if cost.seconds >= 10 else 2}f} s"
    return f"{steps} step{'s' * (steps != 1)}\n{calls:g} call{'s' * (calls != 1)}, {seconds}"


def label_columns(columns: list[Tensor], labels: list[str], name: str) -> Tensor:
    """IMAGEs (B,H,W,3) side by side in one (1,H',W',3), the images of each below each other under its label."""
    factor = math.ceil(READABLE / min(columns[0].shape[1:3]))
    enlarged = [images.repeat_interleave(factor, 1).repeat_interleave(factor, 2) for images in columns]
    return to_image(grid(list(zip(*map(pictures, enlarged))), columns=labels, title=name))


def join_grids(grids: dict[str, Tensor]) -> Tensor:
    """Grids, each (1,H,W,3), below each other in one (1,H',W',3); narrower ones have white at their right.

    Raises:
        ValueError: more than one image, with the name of its input.
    """
    for name, images in grids.items():
        if len(images) != 1:
            raise ValueError(f"{name} has {len(images)} images: expected one, the output grid of a sweep, not images")
    return to_image(stack([picture for images in grids.values() for picture in pictures(images)]))


def pictures(images: Tensor) -> list[Image.Image]:
    return to_pictures(images[..., :3].movedim(-1, 1) * 2 - 1)


def to_image(sheet: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(sheet))[None].float() / 255
