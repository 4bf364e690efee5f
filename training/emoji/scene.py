"""EmojiScenes: which things are where in a image, in which style and color, on which background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

from ..scenes.captions import Shape
from ..scenes.scene import random_cells
from ..scenes.scene import satisfies as satisfies_things
from .captions import NAMES_COLORS, PAIRS, TASKS, caption, is_unseen_pair, is_unseen_style
from .things import ASKED_FOR, BACKGROUNDS, COLORS, NAMED_STYLES, STYLES, THINGS

CELL = 64  # pixels a side
SHAPES = tuple(product((1, 2, 3), repeat=2))  # (columns, rows) of the canvases for training
USUAL = (2, 2)  # half of the canvases for training, where a task fits
P_STYLE, P_GROUND = 0.25, 0.3  # shares of captions that name a style, a background


@dataclass(frozen=True)
class Thing:
    """A thing in a cell of the canvas, counted from 0 at the left and at the top; no color is its own one."""

    item: str
    color: str | None
    style: str
    column: int
    row: int


@dataclass(frozen=True)
class EmojiScene:
    """A canvas of cells, the things in them, and what its caption asks for. A thing alone fills the canvas.

    `requirement` is ready for JSON: {"things": [{"item": name, "color": name or None, "count": n}, ...], "relation":
    None or where the first thing lies, seen from the second, "style" and "background": names or None}.
    """

    task: str
    columns: int
    rows: int
    things: tuple[Thing, ...]
    background: str
    caption: str
    requirement: dict
    seed: int
    index: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.columns * CELL, self.rows * CELL


def draw_scene(
    seed: int, index: int, combinations: str = "seen", task: str | None = None, shape: Shape | None = None,
    split: str = "train",
) -> EmojiScene:  # fmt: skip
    """A scene as a pure function of the arguments: tasks take turns, all else is as likely as it fits.

    Args:
        combinations: "seen", or "unseen": colors, styles and pairs of things that training does not have together.
        shape: (columns, rows) of the canvas; None for one of `SHAPES`.
        split: of the phrasings, "train" or "test".

    Raises:
        ValueError: no such task or combinations, or the task does not fit into the shape.
    """
    task = task or list(TASKS)[index % len(TASKS)]
    if combinations not in PAIRS or task not in TASKS:
        raise ValueError(f"task {task} with {combinations} combinations: expected one of {', '.join(TASKS)}")
    random = Random(f"{seed} {index} {combinations} {task}")
    options = TASKS[task].layouts(SHAPES if shape is None else (shape,))
    if not options:
        raise ValueError(f"{task} does not fit into {shape[0]}x{shape[1]} cells, expected more columns or rows")
    (count, relation), shapes = random.choice(list(options.items()))
    columns, rows = USUAL if USUAL in shapes and random.random() < 0.5 else random.choice(shapes)
    wanted, style = random_wanted(task, count, combinations, random)
    named = style is not None
    style = style or random.choice(STYLES)
    asked = random.choice(list(BACKGROUNDS)) if random.random() < P_GROUND else None
    requirement = {"things": wanted, "relation": relation, "style": style if named else None, "background": asked}
    items = [(thing["item"], thing["color"]) for thing in wanted for _ in range(thing["count"])]
    cells = random_cells(columns, rows, len(items), relation, random)
    things = tuple(Thing(*item, style, *cell) for item, cell in zip(items, cells, strict=True))
    background = asked or random.choice([name for name in BACKGROUNDS if name != ASKED_FOR])
    text = caption(task, requirement, random, split)
    return EmojiScene(task, columns, rows, things, background, text, requirement, seed, index)


def crowded_scene(seed: int, index: int) -> EmojiScene:
    """2x2 cells with any thing in each, a third of them tinted, or one on all of it: for VAE and classifier."""
    random = Random(f"{seed} {index} crowded")
    columns, rows = USUAL
    cells = list(product(range(columns), range(rows))) if random.random() < 0.75 else [(0, 0)]
    things = tuple(
        Thing(random.choice(list(THINGS)), random.choice([None, None, random.choice(list(COLORS))]),
              random.choice(STYLES), *cell)
        for cell in cells
    )  # fmt: skip
    background = random.choice(list(BACKGROUNDS))
    return EmojiScene("crowded", columns, rows, things, background, "things", {}, seed, index)


def random_wanted(task: str, count: int, combinations: str, random: Random) -> tuple[list[dict], str | None]:
    """The things to ask for, and the style that is named, if one is; the colors of two things differ."""
    unseen = combinations == "unseen"
    pairs = PAIRS[combinations if task in NAMES_COLORS else "seen"]
    while True:
        chosen = [random.choice(pairs) for _ in range(TASKS[task].items)]
        style = random.choice(NAMED_STYLES) if random.random() < P_STYLE else None
        items, colors = zip(*chosen, strict=True)
        if len(set(items)) < len(items) or (task in NAMES_COLORS and len(set(colors)) < len(colors)):
            continue
        apart = [style is not None and any(is_unseen_style(item, style) for item in items)]
        apart += [is_unseen_pair(*items)] if len(items) == 2 else []
        if any(apart) == unseen or (unseen and task in NAMES_COLORS):
            break
        if unseen and len(items) == 1 and style is None:
            continue
    named = [
        {"item": item, "color": color if task in NAMES_COLORS else None, "count": count}
        for item, color in chosen
    ]  # fmt: skip
    return named, style


def satisfies(found: Sequence[Thing], background: str, requirement: dict) -> bool:
    """Whether a image shows exactly what is required: counts are exact, and nothing else may be there.

    Args:
        found: a thing for each cell that is not empty, or one that fills the canvas.
        background: the name of the nearest one.
        requirement: as in `EmojiScene`.
    """
    style = requirement["style"]
    if requirement["background"] not in (None, background) or any(style not in (None, t.style) for t in found):
        return False
    return satisfies_things(found, requirement)
