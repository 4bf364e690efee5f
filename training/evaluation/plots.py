"""Plots of scores: lines over the number of steps, and a sheet of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter
from PIL import Image, ImageOps

from tim_model.images import grid

from .scores import Score

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # distinct for color-blind readers, too
GRAY = "#888888"


def score_plot(steps: Sequence[int], series: Mapping[str, Sequence[Score]], bound: float | None = None) -> Image.Image:
    """An image of `score_figure`, 800x480 pixels."""
    canvas = FigureCanvasAgg(score_figure(steps, series, bound))
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def score_figure(steps: Sequence[int], series: Mapping[str, Sequence[Score]], bound: float | None = None) -> Figure:
    """Overall scores over steps on a base-2 logarithmic axis, with their intervals.

    Args:
        series: for each name, a score at each of the increasing `steps`; one line each.
        bound: score of real scenes, a horizontal line.
    """
    figure = Figure((8, 4.8), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps, list(map(str, steps)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="steps", ylim=(0, 1), yticks=np.linspace(0, 1, 5))
    axes.set_title("accepted images, mean of tasks, 95% intervals", loc="left", fontsize="medium")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="y", alpha=0.5)
    if bound is not None:
        axes.axhline(bound, color=GRAY, label="real scenes")
    for i, (name, scores) in enumerate(series.items()):
        x = np.array(steps) * 2 ** (0.03 * (i - (len(series) - 1) / 2))  # so that intervals stay apart
        values, ends = np.array([s.overall for s in scores]), np.array([s.ci for s in scores]).T
        errors = np.abs(ends - values)
        axes.errorbar(x, values, errors, color=COLORS[i % len(COLORS)], label=name, marker="o", markersize=4, capsize=3)
    axes.legend()
    return figure


def sample_sheet(rows: Sequence[Sequence[np.ndarray]], prompts: Sequence[str], steps: Sequence[int]) -> Image.Image:
    """A sheet of images (H,W,3) in bytes, all of one size, enlarged twice.

    Args:
        rows: the images of each prompt, one for each number of steps.
    """
    tiles = [[ImageOps.scale(Image.fromarray(image), 2, Image.Resampling.NEAREST) for image in row] for row in rows]
    return grid(tiles, prompts, [f"{n} step{'s' if n > 1 else ''}" for n in steps])
