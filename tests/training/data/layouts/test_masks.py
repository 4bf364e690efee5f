"""Masks beside images: which file is whose, and which are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training.config.data_schema import DataConfig
from training.data.dataset import Dataset
from training.data.open_dataset import open_dataset

from ...tiny import write_picture


def opened(folder: Path, masks: bool = True, **settings) -> Dataset:
    config = DataConfig(path=str(folder), resolution=32, workers=0, masks=masks, **settings)
    return open_dataset(config, 1, 4)


def picture(folder: Path, name: str, size: tuple[int, int] = (16, 16)) -> None:
    write_picture(folder / name, size, seed=len(name)).with_suffix(".txt").write_text("a cat")


def mask(path: Path, size: tuple[int, int] = (16, 16), white: float = 0.5) -> None:
    """White in its left part."""
    levels = np.zeros(size[::-1], np.uint8)
    levels[:, : int(white * size[0])] = 255
    Image.fromarray(levels).save(path)


def test_masks_are_read_with_their_images(tmp_path):
    picture(tmp_path, "a.jpg")
    picture(tmp_path, "b.png")
    mask(tmp_path / "a-masklabel.png")
    mask(tmp_path / "c-masklabel.png")
    data = opened(tmp_path)
    assert [(sample.name, sample.mask) for sample in data.samples] == [("a.jpg", "a-masklabel.png"), ("b.png", "")]
    left = torch.zeros(1, 16, 16)
    left[..., :8] = 1
    assert torch.equal(data.read_mask(0, False), left) and torch.equal(data.read_mask(0, True), left.flip(-1))
    assert torch.equal(data.read_mask(1, False), torch.ones(1, 16, 16))
    assert "masks without an image, left alone: c-masklabel.png" in data.notes
    assert "1 image of 2 without NAME-masklabel.png: the loss counts everywhere" in data.notes


def test_masks_are_cropped_with_their_images(tmp_path):
    """An image of 36x16 becomes 32x16: two columns are lost at each side, so that 18 white ones become 16."""
    picture(tmp_path, "a.png", (36, 16))
    mask(tmp_path / "a-masklabel.png", (36, 16))
    data = opened(tmp_path, bucket_step=16, max_aspect=3.0)
    assert data.samples[0].bucket == (32, 16)
    assert data.read_mask(0, False)[0, 0].tolist() == [1] * 16 + [0] * 16


def test_masks_that_do_not_fit(tmp_path):
    for name in "abcd":
        picture(tmp_path, f"{name}.png")
    mask(tmp_path / "a-masklabel.png", (8, 16))
    mask(tmp_path / "b-masklabel.png", white=0)
    (tmp_path / "c-masklabel.png").write_bytes(b"no image")
    data = opened(tmp_path)
    assert [sample.name for sample in data.samples] == ["d.png"]
    reasons = dict(data.dropped)
    assert reasons["a.png"] == "its mask a-masklabel.png is of 8x16, expected 16x16 as the image"
    assert reasons["b.png"].startswith("its mask b-masklabel.png is black everywhere")
    assert reasons["c.png"].startswith("its mask c-masklabel.png ")


def test_another_mask_is_other_data(tmp_path):
    picture(tmp_path, "a.png")
    plain = opened(tmp_path).digest()
    assert plain == opened(tmp_path, masks=False).digest()
    mask(tmp_path / "a-masklabel.png")
    half = opened(tmp_path).digest()
    mask(tmp_path / "a-masklabel.png", white=0.25)
    assert len({plain, half, opened(tmp_path).digest()}) == 3


def test_masks_that_are_read_as_images_are_told(tmp_path):
    picture(tmp_path, "a.png")
    mask(tmp_path / "a-masklabel.png")
    data = opened(tmp_path, masks=False)
    assert data.notes == ["a-masklabel.png read as images, not as masks: data.masks=true reads them as such"]
    assert [name for name, _ in data.dropped] == ["a-masklabel.png"]


def test_class_folders_may_have_masks(tmp_path):
    for name in ("cat", "dog"):
        write_picture(tmp_path / name / "a.png")
        mask(tmp_path / name / "a-masklabel.png")
    data = opened(tmp_path)
    assert [(sample.label, bool(sample.mask)) for sample in data.samples] == [(0, True), (1, True)]
