"""Thumbnails: what a template draws, or the sizes or rows of what it would draw with files that are not here."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from devtools.server import Host
from devtools.templates import names
from tim_model.images import grid

SIDE = 512  # pixels
PAIR = 320  # of each of two pictures, which overlap in the middle
BORDER = 6
SIZES = {names.OFFICIAL_TEXT: [4096, 2048, 1024], names.OFFICIAL_CLASSES: [512, 256]}
ROWS = {names.BESIDE_MODELS: ["TiM", "SD3.5 Large Turbo", "FLUX.1 schnell"]}
STEPS = [1, 2, 4, 8]
COLORS = ["#24405c", "#3a6ea5", "#8fb8de"]
QUALITY = 80

Prompt = dict[str, Any]  # in API format


def thumbnail(name: str, prompt: Prompt, host: Host) -> bytes:
    """The JPEG of a template: what it draws, the last of two pictures over the first."""
    if name in SIZES:
        picture = sizes(SIZES[name])
    else:
        picture = rows(ROWS[name]) if name in ROWS else joined(draw(host, prompt))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def draw(host: Host, prompt: Prompt) -> list[Image.Image]:
    """What each node with pictures shows, in the order of the nodes."""
    outputs = host.run(prompt)
    return [host.images({key: outputs[key]})[0].convert("RGB") for key in prompt if "images" in outputs.get(key, {})]


def joined(pictures: list[Image.Image]) -> Image.Image:
    """One picture, or the first of two in the upper left and the second over it in the lower right."""
    if len(pictures) == 1:
        return squared(pictures[0], SIDE)
    first, second = (squared(picture, PAIR) for picture in pictures)
    whole = Image.new("RGB", (SIDE, SIDE), "white")
    whole.paste(first, (0, 0))
    whole.paste("white", (SIDE - PAIR - BORDER, SIDE - PAIR - BORDER, SIDE, SIDE))
    whole.paste(second, (SIDE - PAIR, SIDE - PAIR))
    return whole


def squared(picture: Image.Image, side: int) -> Image.Image:
    """The picture as large as it fits into a white square; pixels stay sharp where it is enlarged."""
    scale = side / max(picture.size)
    size = tuple(round(length * scale) for length in picture.size)
    resized = picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    square = Image.new("RGB", (side, side), "white")
    square.paste(resized, tuple((side - length) // 2 for length in size))
    return square


def sizes(pixels: list[int]) -> Image.Image:
    """Squares of these sizes, largest first, in proportion."""
    card = Image.new("RGB", (SIDE, SIDE), "white")
    pen, font = ImageDraw.Draw(card), ImageFont.load_default(SIDE // 16)
    for count, color in zip(pixels, COLORS):
        top = SIDE - SIDE * count // pixels[0]
        pen.rectangle((0, top, SIDE - top, SIDE), color)
        pen.text((SIDE // 32, top + SIDE // 32), f"{count}x{count}", "white", font)
    return card


def rows(titles: list[str]) -> Image.Image:
    """A row of squares for each of the titles, a column for each number of steps."""
    squares = [[Image.new("RGB", (128, 128), color)] * len(STEPS) for color in COLORS]
    columns = [f"{steps} step{'s' * (steps > 1)}" for steps in STEPS]
    return squared(grid(squares, labels=titles, columns=columns), SIDE)
