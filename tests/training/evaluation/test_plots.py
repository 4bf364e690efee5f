"""training.evaluation.plots: lines lie where their scores are, and sheets hold the pictures."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import ImageColor

from training.evaluation.plots import COLORS, GRAY, sample_sheet, score_figure, score_plot
from training.evaluation.scores import Score


def points(line: Line2D, figure: Figure) -> np.ndarray:
    """Where a line's points (N,2) are drawn, as shares of the canvas's width and height from below."""
    figure.canvas.draw()
    axes = figure.axes[0]
    return axes.transAxes.inverted().transform(line.get_transform().transform(line.get_xydata()))


@pytest.mark.parametrize("overall", [0.1, 0.6])
@pytest.mark.parametrize("steps", [[4], [1, 2, 16]])
def test_lines_intervals_and_bound_lie_at_their_scores(overall, steps):
    scores = [Score(overall, (overall - 0.05, overall + 0.1), {})] * len(steps)
    figure = score_figure(steps, {"one": scores, "other": [Score(0.3, (0.3, 0.3), {})] * len(steps)}, 0.9)
    (one, caps, _), (other, *_) = figure.axes[0].containers
    low, high = (points(cap, figure)[:, 1] for cap in caps)
    assert points(one, figure)[:, 1] == pytest.approx([overall] * len(steps))
    assert low == pytest.approx([overall - 0.05] * len(steps))
    assert high == pytest.approx([overall + 0.1] * len(steps))
    assert points(other, figure)[:, 1] == pytest.approx([0.3] * len(steps))
    across = next(line for line in figure.axes[0].lines if line.get_label() == "real scenes")
    assert across.get_ydata() == [0.9, 0.9]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["real scenes", "one", "other"]


def test_steps_lie_evenly_on_a_logarithmic_axis():
    steps = [1, 2, 4, 8]
    figure = score_figure(steps, {"one": [Score(0.5, (0, 1), {})] * 4})
    across = points(figure.axes[0].containers[0][0], figure)[:, 0]
    assert np.ptp(np.diff(across)) < 1e-6 and 0 < across[0] < across[-1] < 1
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "2", "4", "8"]


def test_the_plot_is_a_picture_with_every_line():
    found = np.asarray(score_plot([1, 4], {name: [Score(0.5, (0.4, 0.6), {})] * 2 for name in ("one", "other")}, 0.9))
    assert found.shape == (480, 800, 3)
    for color in (COLORS[0], COLORS[1], GRAY):
        assert (found == ImageColor.getrgb(color)).all(axis=-1).any()


def test_sheet_holds_all_pictures_at_twice_their_size():
    pictures = [[np.full((32, 64, 3), 10 * i + 100 * j, np.uint8) for i in range(3)] for j in range(2)]
    sheet = np.asarray(sample_sheet(pictures, ["a bag", "a coat"], [1, 2, 4]))
    for picture in (picture for row in pictures for picture in row):
        assert (sheet == picture[0, 0]).all(axis=-1).sum() >= 64 * 128
