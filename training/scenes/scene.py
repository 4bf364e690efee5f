"""A scene of FashionScenes: tinted Fashion-MNIST items on a grid, drawn as a pure function of seed and index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from random import Random

import numpy as np

from ..data.idx import read_split
from .captions import COLORS, ITEMS, PAIRS, TASKS, Cell, Shape, Task, caption, holds

BACKGROUND = (0.06, 0.06, 0.08)
CELL, MARGIN = 32, 2  # pixels per side, and margin around an item of 28 pixels
SHAPES = tuple(product((1, 2, 3), repeat=2))  # (columns, rows) of training canvases


@dataclass(frozen=True)
class Thing:
    """An item in a cell of the canvas, counted from 0 at the left and at the top."""

    item: str
    color: str
    column: int
    row: int


@dataclass(frozen=True)
class Scene:
    """A canvas of cells, the things in them, and the requirement that its caption states.

    `requirement` is ready for JSON: {"things": [{"item": name, "color": name or None, "count": n}, ...], "relation":
    None or the position of the first thing relative to the second}. Its things are of different items.
    """

    task: str
    columns: int
    rows: int
    things: tuple[Thing, ...]
    caption: str
    requirement: dict
    seed: int
    index: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.columns * CELL, self.rows * CELL


def draw_scene(
    seed: int, index: int, combinations: str = "seen", task: str | None = None, shape: Shape | None = None
) -> Scene:
    """A scene as a pure function of the arguments: tasks alternate, everything else is random.

    Args:
        combinations: "seen", or "unseen" for tasks whose captions name colors: only pairs that training never shows.
        shape: (columns, rows) of the canvas; None for one of `SHAPES`.

    Raises:
        ValueError: no such task or combinations, or the task does not fit into the shape.
    """
    tasks = [name for name in TASKS if combinations == "seen" or TASKS[name].names_colors]
    task = task or tasks[index % len(tasks)]
    if combinations not in PAIRS or task not in tasks:
        known = ", ".join(tasks) if combinations in PAIRS else "seen or unseen"
        raise ValueError(f"task {task} with {combinations} combinations: expected {known}")
    random = Random(f"{seed} {index} {combinations} {task}")
    options = TASKS[task].layouts(SHAPES if shape is None else (shape,))
    if not options:
        raise ValueError(f"{task} does not fit into {shape[0]}x{shape[1]} cells, expected more columns or rows")
    (count, relation), shapes = random.choice(list(options.items()))
    columns, rows = random.choice(shapes)
    pairs = random_pairs(PAIRS[combinations], TASKS[task], count, random)
    cells = random_cells(columns, rows, len(pairs), relation, random)
    wanted = [
        {"item": item, "color": color if TASKS[task].names_colors else None, "count": count}
        for item, color in pairs[: TASKS[task].items]
    ]
    requirement = {"things": wanted, "relation": relation}
    things = tuple(Thing(*pair, *cell) for pair, cell in zip(pairs, cells, strict=True))
    return Scene(task, columns, rows, things, caption(task, requirement, random), requirement, seed, index)


def random_pairs(pairs: list[tuple[str, str]], task: Task, count: int, random: Random) -> list[tuple[str, str]]:
    """(item, color) of each thing: one item in any colors, or two items, whose colors differ if they are named."""
    item, color = random.choice(pairs)
    if task.items == 1:
        alike = [pair for pair in pairs if pair[0] == item]
        return [(item, color), *random.choices(alike, k=count - 1)]
    others = [pair for pair in pairs if pair[0] != item and not (task.names_colors and pair[1] == color)]
    return [(item, color), random.choice(others)]


def random_cells(columns: int, rows: int, number: int, relation: str | None, random: Random) -> list[Cell]:
    cells = list(product(range(columns), range(rows)))
    if relation is None:
        return random.sample(cells, number)
    return list(random.choice([pair for pair in permutations(cells, 2) if holds(relation, *pair)]))


def satisfies(found: Sequence[Thing], requirement: dict) -> bool:
    """Whether an image shows exactly the requirement: exact counts, and nothing else.

    Args:
        found: a thing for each non-empty cell; positions are compared on the grid of cells.
        requirement: as in `Scene`.
    """
    groups = [
        [thing for thing in found if thing.item == wanted["item"] and wanted["color"] in (None, thing.color)]
        for wanted in requirement["things"]
    ]
    counts = [wanted["count"] for wanted in requirement["things"]]
    if [len(group) for group in groups] != counts or len(found) != sum(counts):
        return False
    cells = [(thing.column, thing.row) for group in groups for thing in group]
    return requirement["relation"] is None or holds(requirement["relation"], *cells)


class Items:
    """Gray images of every item: `images[name]` holds bytes (N,28,28).

    Args:
        folder: holds the idx files of Fashion-MNIST, packed or not.
        split: "train" or "test".

    Raises:
        ValueError: a file is missing or damaged, or the files are not Fashion-MNIST's.
    """

    def __init__(self, folder: Path, split: str = "train"):
        images, labels = read_split(folder, split)
        self.images = {name: images[labels == label] for name, label in ITEMS.items()}


def render(scene: Scene, items: Items) -> np.ndarray:
    """The image of a scene, bytes (H,W,3); its seed and index select the images of its items."""
    width, height = scene.size
    canvas = tint(np.zeros((height, width), np.uint8), "white")
    random = Random(f"{scene.seed} {scene.index} pictures")
    for thing in scene.things:
        images = items.images[thing.item]
        gray = images[random.randrange(len(images))]
        top, left = thing.row * CELL + MARGIN, thing.column * CELL + MARGIN
        canvas[top : top + len(gray), left : left + len(gray)] = tint(gray, thing.color)
    return canvas


def tint(gray: np.ndarray, color: str) -> np.ndarray:
    """Bytes (...,3) of gray levels (...) in 0..255: the background for 0, the color for 255."""
    low, high = np.float32(BACKGROUND), np.float32(COLORS[color])
    return np.rint(255 * low + gray[..., None] * (high - low)).astype(np.uint8)
