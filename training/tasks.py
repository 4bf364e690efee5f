"""Prompts for evaluation from a file of `scenes.task_lines`, and real scenes of what they ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from random import Random

from tim_model.files import naming

from .captions import COLORS, ITEMS, RELATIONS, fits
from .scenes import CELL, Scene, Thing, random_cells

FIELDS = {"task": str, "prompt": str, "width": int, "height": int, "requirement": dict}


@dataclass(frozen=True)
class TaskLine:
    """A prompt, the size of its picture in pixels, and what the picture must show, as in `scenes.Scene`."""

    task: str
    prompt: str
    width: int
    height: int
    requirement: dict
    unseen: bool = False  # about pairs of item and color that no picture for training shows


def read_tasks(path: Path) -> list[TaskLine]:
    """The lines of a .jsonl file; empty ones are skipped.

    Raises:
        ValueError: no such file, no line that counts, or a bad line, named as file:line.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected one of python -m training.scenes --tasks")
    with naming(path):
        texts = path.read_text(encoding="utf-8").split("\n")
    lines = []
    for number, text in enumerate(texts, 1):
        if text.strip():
            with naming(f"{path}:{number}"):
                lines.append(parse_line(json.loads(text)))
    if all(line.unseen for line in lines):
        raise ValueError(f"{path}: {len(lines)} prompts, expected some that are not of unseen combinations")
    return lines


def parse_line(line: object) -> TaskLine:
    """The prompt of a line; ValueError for anything that no picture can be judged by."""
    values = line if isinstance(line, dict) else {}
    if wrong := [name for name, kind in FIELDS.items() if not isinstance(values.get(name), kind)]:
        kinds = ", ".join(f"{name} ({kind.__name__})" for name, kind in FIELDS.items())
        raise ValueError(f"{wrong[0]} of {str(line)[:80]}: expected {kinds}")
    width, height = line["width"], line["height"]
    if min(width, height) < CELL or width % CELL or height % CELL:
        raise ValueError(f"size {width}x{height}, expected multiples of {CELL}")
    requirement = parse_requirement(line["requirement"], width // CELL, height // CELL)
    return TaskLine(line["task"], line["prompt"], width, height, requirement, bool(line.get("unseen")))


def parse_requirement(requirement: Mapping, columns: int, rows: int) -> dict:
    """What `scenes.satisfies` needs, checked: things of different items that have room."""
    things, relation = requirement.get("things"), requirement.get("relation")
    if not isinstance(things, list) or not things or relation not in [None, *RELATIONS]:
        raise ValueError(f"requirement {requirement}, expected things and a relation: {', '.join(RELATIONS)} or null")
    things = [parse_thing(thing) for thing in things]
    counts = [thing["count"] for thing in things]
    if len({thing["item"] for thing in things}) < len(things) or (relation and counts != [1, 1]):
        raise ValueError(f"requirement {requirement}, expected different items, and one of each of two in a relation")
    if not fits(sum(counts), relation, columns, rows):
        raise ValueError(f"requirement {requirement} does not fit into {columns}x{rows} cells")
    return {"things": things, "relation": relation}


def parse_thing(thing: object) -> dict:
    wanted = {name: thing.get(name) for name in ("item", "color", "count")} if isinstance(thing, dict) else {}
    known = wanted and wanted["item"] in list(ITEMS) and wanted["color"] in [None, *COLORS]
    if not known or not isinstance(wanted["count"], int) or wanted["count"] < 1:
        raise ValueError(
            f"thing {thing}, expected an item ({', '.join(ITEMS)}), a color ({', '.join(COLORS)} or null) and a count"
        )
    return wanted


def real_scene(line: TaskLine, index: int, seed: int) -> Scene:
    """A scene that shows what a line asks for, a pure function of the arguments; what is left open is random."""
    random = Random(f"{seed} {index} real")
    columns, rows = line.width // CELL, line.height // CELL
    wanted = list(chain(*(repeat(thing, thing["count"]) for thing in line.requirement["things"])))
    cells = random_cells(columns, rows, len(wanted), line.requirement["relation"], random)
    colors = [thing["color"] or random.choice(list(COLORS)) for thing in wanted]
    things = tuple(Thing(thing["item"], color, *cell) for thing, color, cell in zip(wanted, colors, cells, strict=True))
    return Scene(line.task, columns, rows, things, line.prompt, line.requirement, seed, index)
