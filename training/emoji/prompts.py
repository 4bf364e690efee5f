"""Prompts for evaluation, and real scenes of what they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from random import Random

from ..scenes.captions import RELATIONS, Shape, fits
from ..scenes.prompts import Prompt
from ..scenes.scene import random_cells
from .captions import PAIRS, TASKS
from .scene import CELL, EmojiScene, Thing, draw_scene
from .things import ASKED_FOR, BACKGROUNDS, COLORS, NAMED_STYLES, STYLES, THINGS


def make_prompts(per_task: int, seed: int = 0, shape: Shape | None = None) -> list[Prompt]:
    """Prompts for evaluation: as many of each task that fits, in phrasings of the test split, seen and unseen ones.

    Args:
        shape: (columns, rows) of every canvas; None for those of training.

    Raises:
        ValueError: there is no prompt to write.
    """
    prompts = []
    for combinations, (name, task) in product(PAIRS, TASKS.items()):
        if shape and not task.layouts([shape]):
            continue
        unseen = combinations == "unseen"
        for scene in (draw_scene(seed, i, combinations, name, shape, "test") for i in range(per_task)):
            prompts.append(Prompt(name, scene.caption, *scene.size, scene.requirement, unseen))
    if not prompts:
        raise ValueError(f"no prompts: {per_task} for each task on {shape} cells, expected at least 1, and 1x1 cells")
    return prompts


def parse_requirement(requirement: Mapping, columns: int, rows: int) -> dict:
    """What `scene.satisfies` needs, checked: different things that have room.

    Raises:
        ValueError: a name that is not known, no room, or no thing.
    """
    things, relation = requirement.get("things"), requirement.get("relation")
    style, background = requirement.get("style"), requirement.get("background")
    if not isinstance(things, list) or not things or relation not in [None, *RELATIONS]:
        raise ValueError(f"requirement {requirement}, expected things and a relation: {', '.join(RELATIONS)} or null")
    if style not in [None, *STYLES] or background not in [None, *BACKGROUNDS]:
        styles, backgrounds = ", ".join(NAMED_STYLES), ", ".join(BACKGROUNDS)
        raise ValueError(f"requirement {requirement}, expected a style ({styles}) and a background ({backgrounds})")
    things = [parse_thing(thing) for thing in things]
    counts = [thing["count"] for thing in things]
    if len({thing["item"] for thing in things}) < len(things) or (relation and counts != [1, 1]):
        raise ValueError(f"requirement {requirement}, expected different things, and one of each of two in a relation")
    if not fits(sum(counts), relation, columns, rows):
        raise ValueError(f"requirement {requirement} does not fit into {columns}x{rows} cells")
    return {"things": things, "relation": relation, "style": style, "background": background}


def parse_thing(thing: object) -> dict:
    wanted = {name: thing.get(name) for name in ("item", "color", "count")} if isinstance(thing, dict) else {}
    known = wanted and wanted["item"] in list(THINGS) and wanted["color"] in [None, *COLORS]
    if not known or type(wanted["count"]) is not int or wanted["count"] < 1:
        raise ValueError(f"thing {thing}, expected an item such as cat, a color ({', '.join(COLORS)} or null), a count")
    return wanted


def real_scene(prompt: Prompt, index: int, seed: int) -> EmojiScene:
    """A scene that shows what a prompt asks for, a pure function of the arguments; what is left open is random."""
    random = Random(f"{seed} {index} real")
    columns, rows = prompt.width // CELL, prompt.height // CELL
    wanted = prompt.requirement
    items = [(thing["item"], thing["color"]) for thing in wanted["things"] for _ in range(thing["count"])]
    cells = random_cells(columns, rows, len(items), wanted["relation"], random)
    style = wanted["style"] or random.choice(STYLES)
    ground = wanted["background"] or random.choice([name for name in BACKGROUNDS if name != ASKED_FOR])
    things = tuple(Thing(*item, style, *cell) for item, cell in zip(items, cells, strict=True))
    return EmojiScene(prompt.task, columns, rows, things, ground, prompt.text, wanted, seed, index)


def shown(scene: EmojiScene) -> Sequence[Thing]:
    """The things as `recognize` reports them: one alone is in the cell where the largest middle square begins."""
    if len(scene.things) > 1:
        return scene.things
    thing, side = scene.things[0], min(scene.size)
    left, top = ((length - side) // 2 // CELL for length in scene.size)
    return [Thing(thing.item, thing.color, thing.style, left, top)]
