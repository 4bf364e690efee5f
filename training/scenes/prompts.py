"""Prompts for evaluation, their file format, and real scenes that satisfy them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from random import Random

from tim_model.files.tensor_files import prefix_errors

from .captions import COLORS, ITEMS, RELATIONS, fits
from .scene import CELL, Scene, Thing, random_cells

FIELDS = {"task": str, "prompt": str, "width": int, "height": int, "requirement": dict}

Check = Callable[[Mapping, int, int], dict]  # a requirement and columns and rows of its canvas; raises ValueError


@dataclass(frozen=True)
class Prompt:
    """A prompt, the size of its image in pixels, and its requirement, in the form of its kind of scenes."""

    task: str
    text: str
    width: int
    height: int
    requirement: dict
    unseen: bool = False  # has pairs of item and color that training images never show

    def to_line(self) -> dict[str, object]:
        """The prompt as a line of a file, which `parse_line` reads."""
        return {"prompt" if name == "text" else name: value for name, value in vars(self).items()}


def read_prompts(path: Path, cell: int = CELL, check: Check | None = None) -> list[Prompt]:
    """The prompts of a .jsonl file, one per line; empty lines are skipped.

    Args:
        cell: pixels of a cell's side.
        check: returns a checked requirement; `parse_requirement` if None.

    Raises:
        ValueError: no such file, no prompts of seen combinations, or a bad line, named as file:line.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected one of python -m training.scenes --tasks")
    with prefix_errors(path):
        texts = path.read_text(encoding="utf-8").split("\n")
    prompts = []
    for number, text in enumerate(texts, 1):
        if text.strip():
            with prefix_errors(f"{path}:{number}"):
                prompts.append(parse_line(json.loads(text), cell, check or parse_requirement))
    if all(prompt.unseen for prompt in prompts):
        raise ValueError(f"{path}: {len(prompts)} prompts, expected some that are not of unseen combinations")
    return prompts


def parse_line(line: object, cell: int, check: Check) -> Prompt:
    """The prompt of a line; ValueError for a line by which images cannot be scored."""
    values = line if isinstance(line, dict) else {}
    if wrong := [name for name, kind in FIELDS.items() if not isinstance(values.get(name), kind)]:
        kinds = ", ".join(f"{name} ({kind.__name__})" for name, kind in FIELDS.items())
        raise ValueError(f"{wrong[0]} of {str(line)[:80]}: expected {kinds}")
    width, height = line["width"], line["height"]
    if min(width, height) < cell or width % cell or height % cell:
        raise ValueError(f"size {width}x{height}, expected multiples of {cell}")
    requirement = check(line["requirement"], width // cell, height // cell)
    return Prompt(line["task"], line["prompt"], width, height, requirement, bool(line.get("unseen")))


def parse_requirement(requirement: Mapping, columns: int, rows: int) -> dict:
    """A checked requirement for `satisfies`: things of different items that fit into the canvas."""
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


def real_scene(prompt: Prompt, index: int, seed: int) -> Scene:
    """A scene that satisfies a prompt, a pure function of the arguments; everything else in it is random."""
    random = Random(f"{seed} {index} real")
    columns, rows = prompt.width // CELL, prompt.height // CELL
    wanted = list(chain(*(repeat(thing, thing["count"]) for thing in prompt.requirement["things"])))
    cells = random_cells(columns, rows, len(wanted), prompt.requirement["relation"], random)
    colors = [thing["color"] or random.choice(list(COLORS)) for thing in wanted]
    things = tuple(Thing(thing["item"], color, *cell) for thing, color, cell in zip(wanted, colors, cells, strict=True))
    return Scene(prompt.task, columns, rows, things, prompt.text, prompt.requirement, seed, index)
