"""training.evaluation.recognizer: sees in drawn scenes what was drawn, also where they are soft, dim or noisy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from devtools.fashion_mnist import find_fashion_mnist
from training.evaluation.classifier import SIDE
from training.evaluation.recognizer import accuracy, read_cells, recognize
from training.scenes.captions import COLORS, ITEMS
from training.scenes.scene import BACKGROUND, CELL, Items, Scene, Thing, draw_scene, render, tint

from ..fashion import NearestItem, read_items

FASHION_MNIST = find_fashion_mnist()
SCENES = [
    *(draw_scene(0, index) for index in range(60)),
    *(draw_scene(0, index, "unseen", shape=(4, 3)) for index in range(8)),
]


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> Items:
    return read_items(tmp_path_factory.mktemp("items"))


def blur(picture: np.ndarray) -> np.ndarray:
    """Means over 3x3 pixels."""
    x = F.pad(torch.tensor(picture).permute(2, 0, 1).float(), (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(x, 3, 1).permute(1, 2, 0).round().byte().numpy()


def dim(picture: np.ndarray) -> np.ndarray:
    """Half as far from the background."""
    low = 255 * np.float32(BACKGROUND)
    return np.rint(low + 0.5 * (picture - low)).astype(np.uint8)


def noisy(picture: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.03 * 255, picture.shape)
    return np.rint(picture + noise).clip(0, 255).astype(np.uint8)


def in_reading_order(scene: Scene) -> list[Thing]:
    return sorted(scene.things, key=lambda thing: (thing.row, thing.column))


@pytest.mark.parametrize("change", [np.copy, blur, dim, noisy])
def test_sees_what_was_drawn(items, change):
    for scene in SCENES:
        assert recognize(change(render(scene, items)), NearestItem()).things == in_reading_order(scene), scene.caption


@pytest.mark.parametrize("change", [np.copy, noisy])
def test_sees_nothing_on_an_empty_canvas(change):
    assert recognize(change(tint(np.zeros((64, 96), np.uint8), "white")), NearestItem()).things == []


@pytest.mark.parametrize("level", [30, 128, 255])
@pytest.mark.parametrize("color", COLORS)
def test_recovers_gray_levels_and_color(color, level):
    gray = np.zeros((CELL, CELL), np.uint8)
    gray[4:20, 4:20] = np.linspace(0, level, 256).reshape(16, 16)
    found, place = read_cells(tint(gray, color))
    assert list(COLORS)[place] == color
    np.testing.assert_allclose(found[0, 0], gray / 255, atol=1 / 255)


def test_a_color_between_two_is_the_nearer_one():
    mixed = np.float32(COLORS["red"]) * 0.7 + np.float32(COLORS["orange"]) * 0.3
    picture = np.tile(np.rint(255 * mixed).astype(np.uint8), (CELL, CELL, 1))
    assert list(COLORS)[read_cells(picture)[1]] == "red"


def test_features_are_of_the_things_as_bright_as_they_are(items):
    scene = Scene("", 2, 1, (Thing("bag", "white", 1, 0),), "", {}, 0, 0)
    sight, dimmed = (recognize(change(render(scene, items)), NearestItem()) for change in (np.copy, dim))
    assert sight.things == dimmed.things == list(scene.things)
    expected = torch.from_numpy(np.pad(items.images["bag"], [(0, 0), (2, 2), (2, 2)])).flatten(1) / 255
    torch.testing.assert_close(sight.features, expected, rtol=0, atol=2 / 255)
    torch.testing.assert_close(dimmed.features, expected / 2, rtol=0, atol=2 / 255)


def test_labels_that_are_no_items_are_never_seen():
    classifier = NearestItem()
    classifier.head.bias.data[[2, 6]] = 1e6  # pullover and shirt
    scene = SCENES[0]
    gray = np.full((scene.size[1], scene.size[0]), 200, np.uint8)
    assert {thing.item for thing in recognize(tint(gray, "red"), classifier).things} <= ITEMS.keys()


def test_accuracy_counts_things_and_cells():
    things = Thing("bag", "red", 0, 0), Thing("coat", "blue", 1, 0), Thing("boot", "cyan", 0, 1)
    found = [Thing("bag", "red", 0, 0), Thing("dress", "blue", 1, 0), Thing("boot", "cyan", 1, 1)]
    assert accuracy([things], [found], [4]) == (1 / 2, 1, 2 / 4)
    assert accuracy([things, things], [things, things], [4, 4]) == (1, 1, 1)
    assert accuracy([things], [[]], [4]) == (0, 0, 1 / 4)


@pytest.mark.parametrize(
    "picture", [np.zeros((32, 40, 3), np.uint8), np.zeros((32, 32), np.uint8), np.zeros((32, 32, 3), np.float32)]
)
def test_refuses_other_pictures(picture):
    with pytest.raises(ValueError, match=r"expected bytes \(H,W,3\), sides multiples of 32"):
        recognize(picture, NearestItem())


@pytest.mark.skipif(FASHION_MNIST is None, reason="no Fashion-MNIST")
@pytest.mark.parametrize("change", [np.copy, blur])
def test_real_items_fill_cells_and_keep_their_colors(change):
    items = Items(FASHION_MNIST, "test")
    means = np.zeros((10, SIDE - 4, SIDE - 4), np.uint8)
    for name, label in ITEMS.items():
        means[label] = items.images[name].mean(axis=0)
    scenes = [draw_scene(1, index) for index in range(150)]
    seen = [recognize(change(render(scene, items)), NearestItem(means)).things for scene in scenes]
    found = accuracy([s.things for s in scenes], seen, [s.columns * s.rows for s in scenes])
    assert found.colors > 0.99 and found.cells > 0.999
    assert found.items > 0.5, "even the nearest mean tells most items"
