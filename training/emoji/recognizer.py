"""What a image of EmojiScenes shows: its background, and the things in its cells or the one that fills it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .classifier import CLASSES, NOTHING, SEVERAL, SIDE, ThingClassifier, classify
from .scene import CELL, Thing
from .things import BACKGROUNDS, COLORS, STYLES

DIFFERENT = 30  # levels of a channel by which a pixel of a thing differs from the background
EMPTY = 0.02  # share of such pixels up to which a part of a image is empty


class Recognition(NamedTuple):
    """What a image shows, and the classifier's features (len(things), D) of these things."""

    things: list[Thing]
    background: str
    features: Tensor


def recognize(image: np.ndarray, net: ThingClassifier) -> Recognition:
    """The things in a image: one that fills it with nothing beside it, or those in its cells, in reading order.

    Every thing has a color, the nearest one for a thing in its own colors. What is no single thing is "several".

    Args:
        image: bytes (H,W,3), sides multiples of 64, as `render` makes them.

    Raises:
        ValueError: a image of another shape or type.
    """
    sizes = image.shape[:2]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or any(s % CELL for s in sizes):
        raise ValueError(f"image {image.shape} of {image.dtype}: expected bytes (H,W,3), sides multiples of {CELL}")
    ground = background_level(image)
    name = min(BACKGROUNDS, key=lambda name: np.square(ground - BACKGROUNDS[name]).sum())
    drawn = (np.abs(image - ground).max(axis=2) > DIFFERENT).astype(np.float32)
    sight = alone(image, drawn, net) or in_cells(image, drawn, net)
    return Recognition(sight[0], name, sight[1])


def background_level(image: np.ndarray) -> np.ndarray:
    """The median (3,) of the pixels at the edges."""
    edges = [image[:2], image[-2:], image[:, :2].swapaxes(0, 1), image[:, -2:].swapaxes(0, 1)]
    return np.median(np.concatenate([edge.reshape(-1, 3) for edge in edges]), axis=0)


def alone(image: np.ndarray, drawn: np.ndarray, net: ThingClassifier) -> tuple[list[Thing], Tensor] | None:
    """The thing in the largest square in the middle, if it is one and the rest is empty."""
    height, width = drawn.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = np.s_[top : top + side, left : left + side]
    outside = drawn.sum() - drawn[middle].sum()
    if drawn[middle].mean() <= EMPTY or outside > EMPTY * CELL * CELL:
        return None
    things, features = name_things([image[middle]], [(left // CELL, top // CELL)], net)
    return (things, features) if things and things[0].item != SEVERAL else None


def in_cells(image: np.ndarray, drawn: np.ndarray, net: ThingClassifier) -> tuple[list[Thing], Tensor]:
    """The things in cells that are not empty."""
    places = [(x, y) for y in range(drawn.shape[0] // CELL) for x in range(drawn.shape[1] // CELL)]
    windows = [np.s_[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL] for x, y in places]
    full = [k for k, window in enumerate(windows) if drawn[window].mean() > EMPTY]
    return name_things([image[windows[k]] for k in full], [places[k] for k in full], net)


def name_things(
    squares: list[np.ndarray], places: list[tuple[int, int]], net: ThingClassifier
) -> tuple[list[Thing], Tensor]:
    """The things that squares of any side show, without those that show nothing, and their features."""
    if not squares:
        return [], torch.empty(0, net.item.in_features)
    sized = [np.asarray(Image.fromarray(square).resize((SIDE, SIDE), Image.Resampling.BOX)) for square in squares]
    answer = classify(net, torch.from_numpy(np.stack(sized)).permute(0, 3, 1, 2))
    items, colors, styles = (logits.argmax(dim=1).tolist() for logits in answer[:3])
    kept = [k for k, item in enumerate(items) if CLASSES[item] != NOTHING]
    things = [Thing(CLASSES[items[k]], list(COLORS)[colors[k]], STYLES[styles[k]], *places[k]) for k in kept]
    return things, answer.features[kept]
