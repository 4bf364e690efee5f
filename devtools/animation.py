"""An animated image of the same prompts and seeds at growing numbers of steps, each frame with what it cost."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

CELL = 192  # pixels of one image
GAP = 8  # pixels around each
HEADER = 40  # pixels for steps and cost
LINES = 34  # pixels for a prompt
LETTERS = 28  # of a prompt in one line
PAUSE, LAST_PAUSE = 1200, 3000  # ms
INK, FAINT = "black", "#b0b0b0"


@dataclass(frozen=True)
class Frame:
    """All prompts at one number of steps.

    Attributes:
        images: by prompt, square ones.
        calls: network calls an image, of which guided steps take two.
        seconds: for an image.
    """

    steps: int
    calls: int
    seconds: float
    images: dict[str, Image.Image]

    @property
    def cost(self) -> str:
        """Such as "7 network calls, 0.31 s"."""
        return f"{self.calls} network call{'s' * (self.calls > 1)}, {self.seconds:.2f} s"


def draw(frame: Frame, counts: Sequence[int]) -> Image.Image:
    """A frame: all `counts` of steps with its own in black, its cost, and its images in two rows over their prompts."""
    columns = math.ceil(len(frame.images) / 2)
    rows = math.ceil(len(frame.images) / columns)
    sheet = Image.new("RGB", (columns * (CELL + GAP) + GAP, HEADER + rows * (CELL + LINES)), "white")
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(size=20), ImageFont.load_default(size=13)
    x, middle = 2 * GAP, HEADER / 2
    for count in counts:
        pen.text((x, middle), str(count), INK if count == frame.steps else FAINT, large, anchor="lm")
        x += pen.textlength(f"{count}  ", large)
    pen.text((x, middle), f"step{'s' * (frame.steps > 1)}", INK, large, anchor="lm")
    pen.text((sheet.width - 2 * GAP, middle), frame.cost, INK, large, anchor="rm")
    for i, (prompt, image) in enumerate(frame.images.items()):
        x, y = GAP + i % columns * (CELL + GAP), HEADER + i // columns * (CELL + LINES)
        sheet.paste(image.resize((CELL, CELL), Image.Resampling.NEAREST), (x, y))
        place, text = (x + CELL / 2, y + CELL + LINES / 2), textwrap.fill(prompt, LETTERS)
        pen.multiline_text(place, text, INK, small, anchor="mm", align="center", spacing=0)
    return sheet


def save_animation(frames: Sequence[Frame], path: Path) -> None:
    """Write the frames as an animated WebP that starts over without an end; the last one stays longest."""
    first, *others = [draw(frame, [frame.steps for frame in frames]) for frame in frames]
    pauses = [PAUSE] * len(others) + [LAST_PAUSE]
    first.save(path, format="WEBP", save_all=True, append_images=others, duration=pauses, loop=0, quality=88, method=4)
