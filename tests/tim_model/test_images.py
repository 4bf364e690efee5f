"""Tensors become pictures, PNG files and grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tim_model.images import GAP, LABEL_HEIGHT, grid, save_png, stack, to_pictures


def test_values_become_bytes():
    """-1 is black and 1 white; beyond them is clamped, between them rounded."""
    values = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0, -1 + 0.9 / 127.5])
    (picture,) = to_pictures(values.expand(1, 3, 2, 6))
    assert picture.mode == "RGB" and picture.size == (6, 2)
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 0, 128, 255, 255, 1]


def test_channels_are_red_green_blue():
    images = torch.full((2, 3, 4, 4), -1.0)
    images[1, 0] = 1
    assert [picture.getpixel((0, 0)) for picture in to_pictures(images.bfloat16())] == [(0, 0, 0), (255, 0, 0)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_without_finite_values_are_refused(value):
    with pytest.raises(ValueError, match="NaN or infinite pixels"):
        to_pictures(torch.full((1, 3, 2, 2), value))


def test_png_is_exact_and_carries_its_settings(tmp_path):
    (picture,) = to_pictures(torch.rand(1, 3, 5, 7) * 2 - 1)
    save_png(picture, tmp_path / "x.png", {"seed": 7, "class": "Größe 1"})
    found = Image.open(tmp_path / "x.png")
    assert np.array_equal(np.asarray(found), np.asarray(picture))
    assert found.text == {"tim.seed": "7", "tim.class": "Größe 1"}
    assert list(tmp_path.iterdir()) == [tmp_path / "x.png"]


def test_grid():
    """A row of two red pictures above a row of one blue: labels above, gaps between, white where nothing is."""
    red, blue = (Image.new("RGB", (20, 10), color) for color in ("red", "blue"))
    sheet = grid([[red, red], [blue]], ["first", "second"])
    row = LABEL_HEIGHT + 10 + GAP
    assert sheet.size == (2 * 20 + GAP, 2 * row - GAP)
    assert sheet.getpixel((0, LABEL_HEIGHT)) == sheet.getpixel((20 + GAP, row - GAP - 1)) == (255, 0, 0)
    assert sheet.getpixel((0, row + LABEL_HEIGHT)) == (0, 0, 255)
    assert sheet.getpixel((20 + GAP, row + LABEL_HEIGHT)) == (255, 255, 255)
    assert (np.asarray(sheet)[:LABEL_HEIGHT] < 100).any(), "the first label is not to be seen"


def test_grid_with_labeled_columns():
    """One line above all rows; the rows themselves have none."""
    red, blue = (Image.new("RGB", (20, 10), color) for color in ("red", "blue"))
    sheet = grid([[red, blue], [blue, red]], columns=["I", "M"])
    assert sheet.size == (2 * 20 + GAP, LABEL_HEIGHT + 2 * 10 + GAP)
    assert sheet.getpixel((20 + GAP, LABEL_HEIGHT)) == sheet.getpixel((0, LABEL_HEIGHT + 10 + GAP)) == (0, 0, 255)
    dark = (np.asarray(sheet)[:LABEL_HEIGHT] < 100).all(axis=-1)
    assert 0 < dark[:, :20].sum() < dark[:, 20 + GAP :].sum()


def test_labels_grow_with_the_pictures():
    large = Image.new("RGB", (512, 300), "red")
    sheet = grid([[large, large]], ["first"])
    assert sheet.size == (2 * 512 + 2 * GAP, 2 * LABEL_HEIGHT + 300)
    rows, _ = np.nonzero((np.asarray(sheet)[: 2 * LABEL_HEIGHT] < 100).all(axis=-1))
    assert rows.max() > LABEL_HEIGHT


def test_grid_wants_a_label_for_each():
    (picture,) = to_pictures(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError):
        grid([[picture], [picture]], ["only one"])


def dark(sheet: Image.Image, top: int, bottom: int) -> np.ndarray:
    """Which pixels of some lines belong to text."""
    return (np.asarray(sheet)[top:bottom] < 100).all(axis=-1)


def test_title_and_columns_of_two_lines():
    """The title's line, two lines above the columns, then the rows."""
    red = Image.new("RGB", (60, 30), "red")
    sheet = grid([[red, red]], columns=["I\nMM", "M\nI"], title="WWW")
    assert sheet.size == (2 * 60 + GAP, 3 * LABEL_HEIGHT + 30)
    assert sheet.getpixel((0, 3 * LABEL_HEIGHT)) == (255, 0, 0)
    lines = [dark(sheet, k * LABEL_HEIGHT, (k + 1) * LABEL_HEIGHT) for k in range(3)]
    assert lines[0].any() and not lines[0][:, 60 + GAP :].any()
    first, second = ([line[:, :60].sum(), line[:, 60 + GAP :].sum()] for line in lines[1:])
    assert 0 < first[0] < first[1] and 0 < second[1] < second[0]


def test_a_long_title_is_not_cut():
    red = Image.new("RGB", (20, 10), "red")
    short, long = (grid([[red]], title=text) for text in ("W" * 10, "W" * 40))
    assert 20 < short.width < long.width
    assert long.getpixel((20, LABEL_HEIGHT)) == (255, 255, 255) and not dark(long, 0, LABEL_HEIGHT)[:, -1].any()


def test_stack():
    """Below each other from the left edge, white beside the narrower one."""
    red, blue = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (8, 6), "blue")
    joined = stack([red, blue])
    assert joined.size == (20, 10 + GAP + 6)
    assert joined.getpixel((19, 9)) == (255, 0, 0) and joined.getpixel((0, 9 + GAP)) == (255, 255, 255)
    assert joined.getpixel((7, 10 + GAP)) == (0, 0, 255) and joined.getpixel((8, 10 + GAP)) == (255, 255, 255)
    assert np.array_equal(np.asarray(stack([blue])), np.asarray(blue))
