"""training.plots: lines lie where their scores are, and sheets hold the pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageColor

from training.plots import BOTTOM, GRAY, INKS, LEFT, RIGHT, SCALE, TOP, sample_sheet, score_plot
from training.scores import Score


def rows_of(picture: Image.Image, color: str, columns: slice) -> np.ndarray:
    """Where a color is on the canvas of the plot, as shares of its height from below."""
    pixels = np.asarray(picture)[TOP // SCALE : BOTTOM // SCALE + 1, columns]
    found = (pixels == ImageColor.getrgb(color)).all(axis=-1).any(axis=1).nonzero()[0]
    return 1 - found / (len(pixels) - 1)


@pytest.mark.parametrize("overall", [0.1, 0.6])
@pytest.mark.parametrize("steps", [[4], [1, 2, 16]])
def test_lines_intervals_and_bound_lie_at_their_scores(overall, steps):
    scores = [Score(overall, (overall - 0.05, overall + 0.1), {})] * len(steps)
    plot = score_plot(steps, {"one": scores, "other": [Score(0.3, (0.3, 0.3), {})] * len(steps)}, 0.9)
    inside = slice(LEFT // SCALE, RIGHT // SCALE)
    line = rows_of(plot, INKS[0], inside)
    assert line.min() == pytest.approx(overall - 0.05, abs=0.02)
    assert line.max() == pytest.approx(overall + 0.1, abs=0.02)
    assert rows_of(plot, INKS[1], inside).mean() == pytest.approx(0.3, abs=0.02)
    assert rows_of(plot, GRAY, slice(RIGHT // SCALE - 5, RIGHT // SCALE)).mean() == pytest.approx(0.9, abs=0.02)


def test_steps_lie_evenly_on_a_logarithmic_axis():
    steps = [1, 2, 4, 8]
    plot = score_plot(steps, {"one": [Score(0.5, (0, 1), {})] * 4})
    row = np.asarray(plot)[round((TOP + 0.3 * (BOTTOM - TOP)) / SCALE)]  # crosses the intervals alone
    inked = (row.min(axis=-1) < 200).nonzero()[0]
    across = [part.mean() for part in np.split(inked, (np.diff(inked) > 3).nonzero()[0] + 1)]
    assert len(across) == 4
    assert np.ptp(np.diff(across)) <= 1.5


def test_sheet_holds_all_pictures_at_twice_their_size():
    pictures = [[np.full((32, 64, 3), 10 * i + 100 * j, np.uint8) for i in range(3)] for j in range(2)]
    sheet = np.asarray(sample_sheet(pictures, ["a bag", "a coat"], [1, 2, 4]))
    for picture in (picture for row in pictures for picture in row):
        assert (sheet == picture[0, 0]).all(axis=-1).sum() >= 64 * 128
