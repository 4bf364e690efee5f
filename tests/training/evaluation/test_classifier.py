"""training.classifier: learns items that are easy to tell apart, keeps what it learned, refuses other files."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import torch

from tim_model.files.tensor_files import CheckpointError
from training.classifier import main
from training.evaluation import classifier
from training.evaluation.classifier import (
    NAMES,
    ItemClassifier,
    accuracy,
    augment,
    classify,
    load_classifier,
    read_items,
    save_classifier,
    train_classifier,
)
from training.objectives.draws import Draws


def bars(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures with a bar of one of four heights, solid, in thick stripes or hollow: their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(NAMES), (count,), generator=generator)
    images = torch.zeros(count, 1, 32, 32, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        bar = image[:, 2 : 9 + 6 * (label % 4), 8:24]
        bar[:] = 230
        if label // 4 == 1:
            bar[:, ::6] = bar[:, 1::6] = bar[:, 2::6] = 0
        if label // 4 == 2:
            bar[:, 2:-2, 4:-4] = 0
    return images, labels


def write_idx(folder, split: str, images: np.ndarray, labels: np.ndarray, pack=False) -> None:
    for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
        content = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
        path = folder / f"{split}-{kind}-ubyte{'.gz' if pack else ''}"
        path.write_bytes(gzip.compress(content) if pack else content)


@pytest.fixture(scope="module")
def trained() -> ItemClassifier:
    torch.manual_seed(0)
    return train_classifier(*bars(1024), epochs=12)


def test_learns_to_tell_items_apart(trained):
    assert accuracy(trained, *bars(300, seed=1)) > 0.9


def test_a_saved_classifier_judges_as_before(trained, tmp_path):
    save_classifier(trained, tmp_path / "judge.safetensors")
    loaded = load_classifier(tmp_path / "judge.safetensors")
    images, _ = bars(20)
    for before, after in zip(classify(trained, images), classify(loaded, images), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert loaded.class_names == NAMES


def test_bytes_and_numbers_from_0_to_1_are_judged_alike(trained):
    images, _ = bars(5)
    torch.testing.assert_close(classify(trained, images)[0], classify(trained, images / 255)[0])


def test_augmentation_moves_mirrors_softens_and_darkens():
    gray = torch.zeros(256, 1, 32, 32)
    gray[:, 0, 10, 8] = 1
    found = augment(gray, Draws(0, 0, range(256)))
    peaks = [divmod(int(picture.argmax()), 32) for picture in found.squeeze(1)]
    columns = {6, 7, 8, 9, 10}
    assert {y for y, _ in peaks} == {8, 9, 10, 11, 12}
    assert {x for _, x in peaks} == columns | {31 - x for x in columns}
    sharp = found.flatten(1).count_nonzero(dim=1) == 1
    assert 90 < int(sharp.sum()) < 170, "about half stay sharp"
    light = found.flatten(1).sum(dim=1)
    assert 90 < int((light > 0.999).sum()) < 170, "about half stay as bright, since blur keeps the sum"
    assert float(light.min()) > 0.49


@pytest.mark.parametrize("pack", [False, True])
def test_reads_the_files_of_fashion_mnist_and_pads_them(tmp_path, pack):
    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    write_idx(tmp_path, "t10k", images, np.array([3, 9], np.uint8), pack)
    found, labels = read_items(tmp_path, "test")
    assert labels.tolist() == [3, 9]
    assert found.shape == (2, 1, 32, 32) and found.dtype == torch.uint8
    np.testing.assert_array_equal(found[:, 0, 2:-2, 2:-2].numpy(), images)
    assert int(found.sum()) == int(images.sum()), "the margin is black"


def test_refuses_files_of_something_else(tmp_path, trained):
    with pytest.raises(CheckpointError, match=r"missing\.safetensors"):
        load_classifier(tmp_path / "missing.safetensors")
    weights = trained.state_dict()
    weights.pop("head.bias")
    classifier.write_safetensors(weights, tmp_path / "part.safetensors", {"class_names": '["a"]'})
    with pytest.raises(CheckpointError, match=r"part\.safetensors.*head\.bias"):
        load_classifier(tmp_path / "part.safetensors")
    classifier.write_safetensors({"x": torch.ones(1)}, tmp_path / "other.safetensors", {})
    with pytest.raises(CheckpointError, match="no classifier of items"):
        load_classifier(tmp_path / "other.safetensors")


def test_the_command_says_in_one_line_what_is_missing(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "out.safetensors")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "train-images-idx3-ubyte" in error
    assert not list(tmp_path.iterdir())
