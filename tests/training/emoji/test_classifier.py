"""training.emoji.classifier and its training: squares with true labels, a net that learns them, and its file."""

from __future__ import annotations

import pytest
import torch

from tim_model.files.errors import CheckpointError
from tim_model.files.tensor_files import write_safetensors
from training.emoji.classifier import (
    CLASSES,
    NOTHING,
    SEVERAL,
    SIDE,
    ThingClassifier,
    classify,
    load_classifier,
    save_classifier,
)
from training.emoji.classifier_training import (
    UNKNOWN,
    augment,
    make_squares,
    shares_right,
    train_classifier,
    with_things,
)
from training.emoji.things import COLORS, STYLES, THINGS

from .stand_ins import NearestColor, stand_ins

SQUARES = make_squares(stand_ins(), 60, seed=5)


def test_squares_have_the_labels_of_what_they_show():
    pixels, labels = SQUARES
    assert pixels.dtype == torch.uint8 and pixels.shape == (len(labels), 3, SIDE, SIDE)
    items, colors, styles = labels.T
    things = items < len(THINGS)
    assert ((colors == UNKNOWN) | (things & (colors < len(COLORS)))).all()
    assert ((styles != UNKNOWN) == things).all()
    assert {CLASSES[i] for i in items.tolist()} > {NOTHING, SEVERAL}
    own = things & (colors == UNKNOWN)
    assert shares_right(NearestColor(), type(SQUARES)(pixels[own], labels[own]))[0] > 0.9
    assert torch.equal(with_things(SQUARES).labels, labels[things])
    empty = items == CLASSES.index(NOTHING)
    assert (pixels[empty] == pixels[empty][:, :, :1, :1]).all()


def test_a_style_can_be_left_out():
    styles = make_squares(stand_ins(), 20, seed=5, styles=STYLES[:2]).labels[:, 2]
    assert set(styles.tolist()) == {UNKNOWN, 0, 1}


def test_augmented_squares_stay_near():
    squares = SQUARES.pixels[:16] / 127.5 - 1
    torch.manual_seed(0)
    changed = augment(squares)
    assert changed.shape == squares.shape and not torch.equal(changed, squares)
    assert (changed.mean(dim=(1, 2, 3)) - squares.mean(dim=(1, 2, 3))).abs().max() < 0.2


def test_training_learns_what_squares_show():
    few = make_squares(stand_ins(), 12, seed=1)
    said: list[str] = []
    net = train_classifier(few, steps=60, report=said.append)
    assert said == [] and not net.training
    items, colors, _ = shares_right(net, few)
    assert items > 0.5 and colors > 0.5


def test_files_give_the_same_answers_in_half_precision(tmp_path):
    torch.manual_seed(0)
    net = ThingClassifier(width=4).eval()
    save_classifier(net, tmp_path / "net.safetensors")
    found, answer = (classify(n, SQUARES.pixels[:8]) for n in (load_classifier(tmp_path / "net.safetensors"), net))
    assert found.features.shape == (8, 32)
    for ours, theirs in zip(found, answer, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.01)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no such file, expected one of training\.emoji classifier"):
        load_classifier(tmp_path / "missing.safetensors")
    save_classifier(ThingClassifier(("cat", "dog"), 4), tmp_path / "pets.safetensors")
    write_safetensors({"weight": torch.zeros(2)}, tmp_path / "other.safetensors", {})
    for name in ("pets", "other"):
        with pytest.raises(CheckpointError, match=f"{name}.safetensors.*is no classifier of these things"):
            load_classifier(tmp_path / f"{name}.safetensors")
