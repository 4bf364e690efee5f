"""Images in and out: tensors in [-1, 1], PNG files with their settings inside, labeled grids."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .files.tensor_files import atomic

GAP = 4  # pixels between the images of a grid
FONT_SIZE = 10  # of Pillow's built-in font
LABEL_HEIGHT = 14  # one line of it


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Images (B,3,H,W) in [-1, 1] (clamped) -> B RGB images of Pillow.

    Raises:
        ValueError: NaN or infinite pixels, as an overflow in half precision leaves them.
    """
    if not images.isfinite().all():
        raise ValueError("the images hold NaN or infinite pixels: expected finite ones; try --dtype float32")
    pixels = (images.float().clamp(-1, 1) + 1) * 127.5
    array = pixels.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(np.ascontiguousarray(picture)) for picture in array]


def save_png(picture: Image.Image, path: str | os.PathLike, settings: Mapping[str, object]) -> None:
    """Write a PNG atomically, with one text entry "tim.<name>" for each setting."""
    info = PngInfo()
    for name, value in settings.items():
        info.add_itxt(f"tim.{name}", str(value))
    with atomic(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=info)


def grid(
    rows: Sequence[Sequence[Image.Image]], labels: Sequence[str] = (), columns: Sequence[str] = (), title: str = ""
) -> Image.Image:
    """One image from rows of images of equal size, with `labels` above the rows and `columns` above the columns.

    Labels of columns may have several lines. The title stands above them all, and widens what is narrower.
    Labels and gaps grow with images of more than 128 pixels.
    """
    width, height = rows[0][0].size
    scale = max(1, min(width, height) // 128)
    gap, line = scale * GAP, scale * LABEL_HEIGHT
    font = ImageFont.load_default(scale * FONT_SIZE)
    head = line if title else 0
    top = head + line * max((text.count("\n") + 1 for text in columns), default=0)
    above = line if labels else 0
    x = [i * (width + gap) for i in range(max(map(len, rows)))]
    y = [top + above + j * (above + height + gap) for j in range(len(rows))]
    sheet = Image.new("RGB", (max(x[-1] + width, title_width(title, font, scale)), y[-1] + height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((scale, scale), title, "black", font)
    for left, text in zip(x, columns or [""] * len(x), strict=True):
        for k, part in enumerate(text.split("\n")):
            draw.text((left + scale, head + k * line + scale), part, "black", font)
    for lower, text in zip(y, labels or [""] * len(y), strict=True):
        draw.text((scale, lower - above + scale), text, "black", font)
    for row, lower in zip(rows, y):
        for picture, left in zip(row, x):
            sheet.paste(picture, (left, lower))
    return sheet


def title_width(title: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, margin: int) -> int:
    """Pixels of a line of text and of its margins."""
    return math.ceil(font.getlength(title)) + 2 * margin if title else 0


def stack(sheets: Sequence[Image.Image]) -> Image.Image:
    """Images below each other, `GAP` pixels apart, from the left edge; white where one is narrower than the widest."""
    width = max(sheet.width for sheet in sheets)
    joined = Image.new("RGB", (width, sum(sheet.height + GAP for sheet in sheets) - GAP), "white")
    top = 0
    for sheet in sheets:
        joined.paste(sheet, (0, top))
        top += sheet.height + GAP
    return joined


def joined(rows: list[dict[str, object]]) -> dict[str, object]:
    """The settings of several rows as one: values that differ are joined, step counts as `--steps` takes them."""
    return {
        name: ("," if name == "steps" else " | ").join(dict.fromkeys(str(row[name]) for row in rows))
        for name in rows[0]
    }
