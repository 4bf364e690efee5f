"""FashionScenes: drawn pictures of tinted Fashion-MNIST items on a grid, and prompts in the style of GenEval.

python -m training.scenes --out FOLDER --items FOLDER --count N [--split train|test] [--seed S]
python -m training.scenes --tasks FILE --per-task N [--shape COLUMNSxROWS] [--seed S]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image
from tqdm import tqdm

from tim_model.files import atomic

from .captions import COLORS, ITEMS, PAIRS, TASKS, Cell, Shape, Task, caption, holds
from .command import status_of
from .idx import PARTS, read_split

BACKGROUND = (0.06, 0.06, 0.08)
CELL, MARGIN = 32, 2  # pixels a side, and around an item, which is 28 a side
SHAPES = tuple(product((1, 2, 3), repeat=2))  # (columns, rows) of the canvases for training


@dataclass(frozen=True)
class Thing:
    """An item in a cell of the canvas, counted from 0 at the left and at the top."""

    item: str
    color: str
    column: int
    row: int


@dataclass(frozen=True)
class Scene:
    """A canvas of cells, the things in them, and what its caption asks for.

    `requirement` is ready for JSON: {"things": [{"item": name, "color": name or None, "count": n}, ...], "relation":
    None or where the first thing lies, seen from the second}. Its things are of different items.
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
    """A scene as a pure function of the arguments: tasks take turns, all else is as likely as it fits.

    Args:
        combinations: "seen", or "unseen" for tasks whose captions name colors: every pair of item and color is one.
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
    """Whether a picture shows exactly what is required: counts are exact, and nothing else may be there.

    Args:
        found: a thing for each cell that is not empty; positions are compared on the grid of cells.
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
    """Gray pictures of every item: `pictures[name]` holds bytes (N,28,28).

    Args:
        folder: holds the idx files of Fashion-MNIST, packed or not.
        split: "train" or "test".

    Raises:
        ValueError: a file is missing or damaged, or the files are not Fashion-MNIST's.
    """

    def __init__(self, folder: Path, split: str = "train"):
        images, labels = read_split(folder, split)
        self.pictures = {name: images[labels == label] for name, label in ITEMS.items()}


def render(scene: Scene, items: Items) -> np.ndarray:
    """The picture of a scene, bytes (H,W,3); its seed and index choose among the pictures of an item."""
    width, height = scene.size
    canvas = tint(np.zeros((height, width), np.uint8), "white")
    random = Random(f"{scene.seed} {scene.index} pictures")
    for thing in scene.things:
        pictures = items.pictures[thing.item]
        gray = pictures[random.randrange(len(pictures))]
        top, left = thing.row * CELL + MARGIN, thing.column * CELL + MARGIN
        canvas[top : top + len(gray), left : left + len(gray)] = tint(gray, thing.color)
    return canvas


def tint(gray: np.ndarray, color: str) -> np.ndarray:
    """Bytes (...,3) of gray levels (...) in 0..255: the background for 0, the color for 255."""
    low, high = np.float32(BACKGROUND), np.float32(COLORS[color])
    return np.rint(255 * low + gray[..., None] * (high - low)).astype(np.uint8)


def write_pictures(folder: Path, items: Items, count: int, seed: int = 0) -> None:
    """Write scenes as a folder for training, of PNG files and metadata.jsonl; it appears when it is whole.

    Raises:
        ValueError: the folder exists, or there is nothing to write.
    """
    if count < 1:
        raise ValueError(f"{folder}: {count} pictures wanted, expected at least 1")
    if folder.exists():
        raise ValueError(f"{folder}: exists, expected the name of a folder to make")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of an interrupted run
    lines = []
    for index in tqdm(range(count), "drawing scenes", unit="picture", disable=None):
        scene = draw_scene(seed, index)
        name = f"{index // 1000:03d}/{index:06d}.png"
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render(scene, items)).save(partial / name)
        lines.append({"file_name": name, "text": scene.caption, "task": scene.task, "requirement": scene.requirement})
    write_lines(partial / "metadata.jsonl", lines)
    partial.rename(folder)


def write_lines(path: Path, lines: Sequence[dict]) -> None:
    with atomic(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def task_lines(per_task: int, seed: int = 0, shape: Shape | None = None) -> list[dict]:
    """Prompts for evaluation: as many of each task that fits, and again of unseen combinations where colors are named.

    Args:
        shape: (columns, rows) of every canvas; None for those of training.

    Raises:
        ValueError: there is no prompt to write.
    """
    lines = []
    for combinations, (name, task) in product(PAIRS, TASKS.items()):
        if (combinations == "unseen" and not task.names_colors) or (shape and not task.layouts([shape])):
            continue
        for scene in (draw_scene(seed, index, combinations, name, shape) for index in range(per_task)):
            width, height = scene.size
            unseen = combinations == "unseen"
            lines.append({"task": name, "prompt": scene.caption, "width": width, "height": height,
                          "requirement": scene.requirement, "unseen": unseen})  # fmt: skip
    if not lines:
        raise ValueError(f"no prompts: {per_task} for each task on {shape} cells, expected at least 1, and 1x1 cells")
    return lines


def parse_shape(text: str) -> Shape:
    """(columns, rows) of a text such as 4x3."""
    if not (match := re.fullmatch(r"(\d+)x(\d+)", text)):
        raise ValueError(f"--shape {text!r}: expected columns x rows, such as 4x3")
    return int(match[1]), int(match[2])


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. What cannot be done is one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.scenes", description=__doc__.splitlines()[0])
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--out", type=Path, help="the folder of pictures to make")
    wanted.add_argument("--tasks", type=Path, help="the .jsonl file of prompts to write")
    parser.add_argument("--items", type=Path, default=Path(), help="the folder with Fashion-MNIST's idx files")
    parser.add_argument("--count", type=int, default=20_000, help="pictures (default: %(default)s)")
    parser.add_argument("--split", choices=PARTS, default="train", help="the items to show (default: %(default)s)")
    parser.add_argument("--per-task", type=int, default=100, help="prompts of each task (default: %(default)s)")
    parser.add_argument("--shape", help="columns x rows of every prompt's canvas, such as 4x3")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    arguments = parser.parse_args(argv)

    def work() -> None:
        if arguments.out:
            write_pictures(arguments.out, Items(arguments.items, arguments.split), arguments.count, arguments.seed)
        else:
            shape = parse_shape(arguments.shape) if arguments.shape else None
            write_lines(arguments.tasks, task_lines(arguments.per_task, arguments.seed, shape))
        print(f"wrote {arguments.out or arguments.tasks}")

    return status_of(work)


if __name__ == "__main__":
    sys.exit(main())
