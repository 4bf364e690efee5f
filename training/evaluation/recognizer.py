"""Recognizes images of FashionScenes: which cells are empty, and the item and color in the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..scenes.captions import COLORS, ITEMS
from ..scenes.scene import BACKGROUND, CELL, Thing
from .classifier import ItemClassifier, classify

# A cell is empty up to this root mean square of its gray levels. 999 of 1000 items of the test split have 0.07 or more,
# even after a 3x3 blur; noise of 0.03 in an empty cell gives 0.02.
EMPTY = 0.06


class Recognition(NamedTuple):
    """The things in an image, and the classifier's features (len(things), D) of their gray images."""

    things: list[Thing]
    features: Tensor


class Accuracy(NamedTuple):
    """Accuracies: items and colors of the detected things, and cells as empty or not."""

    items: float
    colors: float
    cells: float


def recognize(image: np.ndarray, classifier: ItemClassifier) -> Recognition:
    """The things in an image, in reading order, one for each cell that is not empty, and the features of their shapes.

    Items are classified at full brightness, since the classifier was not trained on dim ones. Features are of the
    unchanged image.

    Args:
        image: bytes (H,W,3), sides multiples of 32, as `scenes.render` makes them.
        classifier: of Fashion-MNIST's labels; only those of `ITEMS` are distinguished.

    Raises:
        ValueError: an image of another shape or type.
    """
    gray, color = read_cells(image)
    places = (gray.square().mean(dim=(-2, -1)).sqrt() > EMPTY).nonzero()
    shapes = gray[tuple(places.T)][:, None]
    logits, _ = classify(classifier, shapes / shapes.amax(dim=(-2, -1), keepdim=True))
    items = logits[:, list(ITEMS.values())].argmax(dim=1)
    names, tints = list(ITEMS), list(COLORS)
    things = [
        Thing(names[item], tints[color[row, column]], column, row)
        for item, (row, column) in zip(items.tolist(), places.tolist(), strict=True)
    ]
    return Recognition(things, classify(classifier, shapes)[1])


def read_cells(image: np.ndarray) -> tuple[Tensor, Tensor]:
    """Gray levels in [0, 1] (rows,columns,32,32) of an image's cells, and their colors as indices into `COLORS`.

    A named color and its darker tints form a ray from the background. A cell has the color whose ray is nearest to its
    pixels by the sum of squared distances, so that bright pixels count most; its gray levels are the projections of the
    pixels onto that ray. Blur and fading move pixels only along the ray, so they do not change the color.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or any(s % CELL for s in image.shape[:2]):
        raise ValueError(f"image {image.shape} of {image.dtype}: expected bytes (H,W,3), sides multiples of {CELL}")
    x = torch.tensor(image) / 255 - torch.tensor(BACKGROUND)
    cells = rearrange(x, "(rows h) (columns w) rgb -> rows columns h w rgb", h=CELL, w=CELL)
    rays = torch.tensor(list(COLORS.values())) - torch.tensor(BACKGROUND)
    lengths = rays.norm(dim=1)
    feet = (cells @ (rays / lengths[:, None]).T).relu()
    color = feet.square().sum(dim=(2, 3)).argmax(dim=-1)  # pixel^2 - projection^2 is the squared distance
    feet = feet.take_along_dim(color[..., None, None, None], dim=-1).squeeze(-1)
    return (feet / lengths[color][..., None, None]).clamp(max=1), color


def accuracy(true: Sequence[Sequence], found: Sequence[Sequence], cells: Sequence[int]) -> Accuracy:
    """How well the things in scenes were recognized; items and colors are 0 if none were found.

    Args:
        true, found: the things of each scene, with item, color, column and row; a true thing's color None is any.
        cells: of each scene.
    """
    pairs, mistaken = [], 0
    for things, others in zip(true, found, strict=True):
        by_place = [{(thing.column, thing.row): thing for thing in group} for group in (things, others)]
        pairs += [tuple(group[place] for group in by_place) for place in by_place[0].keys() & by_place[1].keys()]
        mistaken += len(by_place[0].keys() ^ by_place[1].keys())
    tinted = [(a, b) for a, b in pairs if a.color is not None]
    items = sum(a.item == b.item for a, b in pairs) / max(1, len(pairs))
    colors = sum(a.color == b.color for a, b in tinted) / max(1, len(tinted))
    return Accuracy(items, colors, 1 - mistaken / sum(cells))
