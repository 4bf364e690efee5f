"""What a picture of FashionScenes shows: which cells are empty, and item and color of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from .captions import COLORS, ITEMS
from .classifier import ItemClassifier, classify
from .scenes import BACKGROUND, CELL, Scene, Thing

# Root mean square of a cell's gray levels up to which it is empty. Of 999 in 1000 items of the test split it is 0.07
# or more, blurred 3x3 still; noise of 0.03 in an empty cell makes 0.02.
EMPTY = 0.06


class Sight(NamedTuple):
    """What a picture shows, and the classifier's features (len(things), D) of the gray pictures of these things."""

    things: list[Thing]
    features: Tensor


class Accuracy(NamedTuple):
    """Shares that are judged right: items and colors of the things that are seen, and cells as empty or not."""

    items: float
    colors: float
    cells: float


def judge(picture: np.ndarray, classifier: ItemClassifier) -> list[Thing]:
    """The things in a picture, in reading order, one for each cell that is not empty; see `look`."""
    return look(picture, classifier).things


def look(picture: np.ndarray, classifier: ItemClassifier) -> Sight:
    """The things in a picture, and the features of their shapes.

    Items are recognized at full brightness: the classifier knows no dim ones. Features are of the picture as it is.

    Args:
        picture: bytes (H,W,3), sides multiples of 32, as `scenes.render` makes them.
        classifier: of Fashion-MNIST's labels; only those of `ITEMS` are told apart.

    Raises:
        ValueError: a picture of another shape or type.
    """
    gray, color = read_cells(picture)
    places = (gray.square().mean(dim=(-2, -1)).sqrt() > EMPTY).nonzero()
    shapes = gray[tuple(places.T)][:, None]
    logits, _ = classify(classifier, shapes / shapes.amax(dim=(-2, -1), keepdim=True))
    items = logits[:, list(ITEMS.values())].argmax(dim=1)
    names, tints = list(ITEMS), list(COLORS)
    things = [
        Thing(names[item], tints[color[row, column]], column, row)
        for item, (row, column) in zip(items.tolist(), places.tolist(), strict=True)
    ]
    return Sight(things, classify(classifier, shapes)[1])


def read_cells(picture: np.ndarray) -> tuple[Tensor, Tensor]:
    """Gray levels in [0, 1] (rows,columns,32,32) of a picture's cells, and their colors, places in `COLORS`.

    A named color and its darker tints lie on a ray from the background. A cell has the color whose ray its pixels lie
    nearest to, by the sum of squared distances, so that bright pixels count most; its gray levels are the feet of the
    pixels on that ray. Blur and fading move pixels along the ray only, so that neither changes the color.
    """
    if (
        picture.dtype != np.uint8
        or picture.ndim != 3
        or picture.shape[2] != 3
        or any(s % CELL for s in picture.shape[:2])
    ):
        raise ValueError(
            f"picture {picture.shape} of {picture.dtype}: expected bytes (H,W,3), sides multiples of {CELL}"
        )
    x = torch.tensor(picture) / 255 - torch.tensor(BACKGROUND)
    cells = rearrange(x, "(rows h) (columns w) rgb -> rows columns h w rgb", h=CELL, w=CELL)
    rays = torch.tensor(list(COLORS.values())) - torch.tensor(BACKGROUND)
    lengths = rays.norm(dim=1)
    feet = (cells @ (rays / lengths[:, None]).T).relu()
    color = feet.square().sum(dim=(2, 3)).argmax(dim=-1)  # pixel^2 - foot^2 is the squared distance
    feet = feet.take_along_dim(color[..., None, None, None], dim=-1).squeeze(-1)
    return (feet / lengths[color][..., None, None]).clamp(max=1), color


def accuracy(scenes: Sequence[Scene], found: Sequence[Sequence[Thing]]) -> Accuracy:
    """How well the things of scenes were `found`; items and colors are 0 where nothing was."""
    pairs, cells, mistaken = [], 0, 0
    for scene, things in zip(scenes, found, strict=True):
        true, seen = ({(t.column, t.row): t for t in group} for group in (scene.things, things))
        pairs += [(true[place], seen[place]) for place in true.keys() & seen.keys()]
        cells += scene.columns * scene.rows
        mistaken += len(true.keys() ^ seen.keys())
    number = max(1, len(pairs))
    items, colors = (sum(getattr(a, name) == getattr(b, name) for a, b in pairs) for name in ("item", "color"))
    return Accuracy(items / number, colors / number, 1 - mistaken / cells)
