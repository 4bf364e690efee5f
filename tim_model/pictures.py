"""Pictures in and out: tensors in [-1, 1], PNG files with their settings inside, labeled grids."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .files import atomic

GAP = 4  # pixels between the pictures of a grid
LABEL_HEIGHT = 14  # one line of Pillow's built-in font


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Images (B,3,H,W) in [-1, 1] (clamped) -> B RGB pictures.

    Raises:
        ValueError: NaN or infinite pixels, as an overflow in half precision leaves them.
    """
    if not images.isfinite().all():
        raise ValueError("the images hold NaN or infinite pixels: expected finite ones; try --dtype float32")
    pixels = (images.float().clamp(-1, 1) + 1) * 127.5
    array = pixels.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(np.ascontiguousarray(picture)) for picture in array]


def save_png(picture: Image.Image, path: str | os.PathLike, settings: Mapping[str, object]) -> None:
    """Write a PNG, whole or not at all, with one text entry "tim.<name>" for each setting."""
    info = PngInfo()
    for name, value in settings.items():
        info.add_itxt(f"tim.{name}", str(value))
    with atomic(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=info)


def grid(rows: Sequence[Sequence[Image.Image]], labels: Sequence[str]) -> Image.Image:
    """One picture of rows of pictures of equal size, each row under its label."""
    width, height = rows[0][0].size
    row_height = LABEL_HEIGHT + height + GAP
    columns = max(map(len, rows))
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, len(rows) * row_height - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for j, (row, label) in enumerate(zip(rows, labels, strict=True)):
        draw.text((1, j * row_height + 1), label, fill="black")
        for i, picture in enumerate(row):
            sheet.paste(picture, (i * (width + GAP), j * row_height + LABEL_HEIGHT))
    return sheet
