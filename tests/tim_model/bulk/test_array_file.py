"""The array file as the evaluator of ADM reads it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tim_model.bulk.array_file import write_array

from .readers import read_adm


def images(tmp_path, count: int = 130) -> tuple[list, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 6, 8, 3), np.uint8)
    paths = [tmp_path / f"{k:06}.png" for k in range(count)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return paths, pixels


def test_array_file(tmp_path):
    paths, pixels = images(tmp_path)
    labels = [k % 7 for k in range(130)]
    write_array(paths, labels, (8, 6), tmp_path / "out.npz")
    batches = read_adm(tmp_path / "out.npz")
    assert [len(batch) for batch in batches] == [64, 64, 2]
    assert (np.concatenate(batches) == pixels).all()
    with np.load(tmp_path / "out.npz") as content:
        assert list(content) == ["arr_0", "arr_1"]
        assert (content["arr_0"] == pixels).all() and content["arr_1"].tolist() == labels


def test_nothing_half_written(tmp_path):
    paths, _ = images(tmp_path, 3)
    Image.new("RGB", (8, 7)).save(paths[2])
    with pytest.raises(ValueError, match="000002.png: is 8x7, expected 8x6"):
        write_array(paths, [0] * 3, (8, 6), tmp_path / "out.npz")
    assert sorted(tmp_path.iterdir()) == paths
