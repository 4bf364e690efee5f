"""Pictures that tell scores: lines over the number of steps, and a sheet of samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tim_model.pictures import grid

from .scores import Score

SCALE = 2  # lines are drawn this much larger and reduced, which smooths them
WIDTH, HEIGHT = 800 * SCALE, 480 * SCALE
LEFT, TOP, RIGHT, BOTTOM = 70 * SCALE, 40 * SCALE, WIDTH - 30 * SCALE, HEIGHT - 60 * SCALE
FONT = 14 * SCALE
INKS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by color-blind eyes too
GRAY = "#888888"


def score_plot(steps: Sequence[int], series: Mapping[str, Sequence[Score]], bound: float | None = None) -> Image.Image:
    """Overall scores over steps on a base-2 logarithmic axis, with their intervals.

    Args:
        series: a line under its name, with a score for each of the increasing `steps`.
        bound: score of real scenes, a line across.
    """
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT)
    low, high = math.log2(steps[0]), math.log2(steps[-1])
    x = {n: LEFT + (RIGHT - LEFT) * (0.05 + 0.9 * (math.log2(n) - low) / ((high - low) or 1)) for n in steps}
    draw_axes(draw, font, x)
    if bound is not None:
        draw.line([(LEFT, y_of(bound)), (RIGHT, y_of(bound))], GRAY, 2 * SCALE)
        draw.text((LEFT + SCALE, y_of(bound) - SCALE), "real scenes", GRAY, font, anchor="lb")
    end = RIGHT  # of the next name, right to left
    for i, (name, scores) in reversed(list(enumerate(series.items()))):
        ink, shift = INKS[i % len(INKS)], (i - (len(series) - 1) / 2) * 4 * SCALE  # so that intervals stay apart
        draw_line(draw, [x[n] + shift for n in steps], scores, ink)
        draw.text((end, TOP / 2), name, ink, font, anchor="rm")
        end -= draw.textlength(name, font) + FONT
    return picture.reduce(SCALE)


def y_of(value: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * value


def draw_axes(draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, x: Mapping[int, float]) -> None:
    for percent in (0, 25, 50, 75, 100):
        y = y_of(percent / 100)
        draw.line([(LEFT, y), (RIGHT, y)], "#dddddd" if percent else "black", SCALE)
        draw.text((LEFT - FONT / 2, y), f"{percent}%", "black", font, anchor="rm")
    for n, place in x.items():
        draw.line([(place, BOTTOM), (place, BOTTOM + FONT / 3)], "black", SCALE)
        draw.text((place, BOTTOM + FONT / 2), str(n), "black", font, anchor="mt")
    draw.text(((LEFT + RIGHT) / 2, HEIGHT - FONT / 2), "steps", "black", font, anchor="mb")
    draw.text((LEFT, TOP / 2), "accepted pictures, mean of tasks, 95% intervals", "black", font, anchor="lm")


def draw_line(draw: ImageDraw.ImageDraw, x: Sequence[float], scores: Sequence[Score], ink: str) -> None:
    points = [(place, y_of(score.overall)) for place, score in zip(x, scores, strict=True)]
    draw.line(points, ink, 2 * SCALE, joint="curve")
    for (place, y), score in zip(points, scores, strict=True):
        low, high = map(y_of, score.ci)
        draw.line([(place, low), (place, high)], ink, SCALE)
        for end in (low, high):
            draw.line([(place - 3 * SCALE, end), (place + 3 * SCALE, end)], ink, SCALE)
        draw.ellipse([place - 3 * SCALE, y - 3 * SCALE, place + 3 * SCALE, y + 3 * SCALE], ink)


def sample_sheet(rows: Sequence[Sequence[np.ndarray]], prompts: Sequence[str], steps: Sequence[int]) -> Image.Image:
    """Pictures (H,W,3) in bytes, all of one size, drawn twice as large.

    Args:
        rows: those of each prompt, one for each number of steps.
    """
    tiles = [[ImageOps.scale(Image.fromarray(picture), 2, Image.Resampling.NEAREST) for picture in row] for row in rows]
    return grid(tiles, prompts, [f"{n} step{'s' if n > 1 else ''}" for n in steps])
