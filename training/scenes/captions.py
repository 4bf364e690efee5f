"""The content and phrasings of captions of FashionScenes: plain English in lower case without punctuation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

ITEMS = {"t-shirt": 0, "trouser": 1, "dress": 3, "coat": 4, "sandal": 5, "sneaker": 7, "bag": 8, "boot": 9}
COLORS = {
    "red": (1, 0.15, 0.15), "orange": (1, 0.55, 0.1), "yellow": (1, 0.95, 0.2), "green": (0.2, 0.85, 0.25),
    "cyan": (0.2, 0.9, 0.95), "blue": (0.25, 0.4, 1), "purple": (0.75, 0.3, 0.95), "white": (1, 1, 1),
}  # fmt: skip
RELATIONS = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
FRAMES = (
    "{phrase}", "a photo of {phrase}", "a picture of {phrase}", "an image of {phrase}", "there {is_or_are} {phrase}",
)  # fmt: skip

Shape = tuple[int, int]  # columns, rows
Cell = tuple[int, int]  # column and row, from 0 at the left and at the top


@dataclass(frozen=True)
class Task:
    """The content of a task's captions: `items` different ones, their counts, colors and relation."""

    phrases: tuple[str, ...]
    items: int = 1
    counts: tuple[int, ...] = (1,)
    relations: tuple[str | None, ...] = (None,)

    @property
    def names_colors(self) -> bool:
        return "{color}" in self.phrases[0]

    def layouts(self, shapes: Sequence[Shape]) -> dict[tuple[int, str | None], list[Shape]]:
        """The shapes that fit each possible (count, relation); those that fit no shape are left out."""
        asked = product(self.counts, self.relations)
        fitting = {(count, r): [shape for shape in shapes if fits(count * self.items, r, *shape)] for count, r in asked}
        return {key: found for key, found in fitting.items() if found}


TASKS = {
    "single_object": Task(("a {item}", "one {item}", "a single {item}")),
    "two_object": Task(("a {item} and a {other}", "a {item} with a {other}", "a {item} together with a {other}"), 2),
    "counting": Task(("{number} {items}", "exactly {number} {items}"), counts=(2, 3, 4)),
    "colors": Task(("a {color} {item}", "one {color} {item}", "a {item} in {color}")),
    "position": Task(("a {item} {relation} a {other}",), 2, relations=tuple(RELATIONS)),
    "color_attribution": Task(
        (
            "a {color} {item} and a {other_color} {other}",
            "a {color} {item} with a {other_color} {other}",
            "a {item} in {color} and a {other} in {other_color}",
        ),
        items=2,
    ),
}


def fits(number: int, relation: str | None, columns: int, rows: int) -> bool:
    """Whether a shape has that many cells, and cells in that relation."""
    ends = (0, 0), (columns - 1, rows - 1)
    related = relation is None or holds(relation, *ends) or holds(relation, *ends[::-1])
    return min(columns, rows) > 0 and number <= columns * rows and related


def holds(relation: str, cell: Cell, other: Cell) -> bool:
    """Whether a cell is left of another: in a column further left, in any row; likewise for the other relations."""
    (column, row), (other_column, other_row) = cell, other
    return {
        "left of": column < other_column, "right of": column > other_column,
        "above": row < other_row, "below": row > other_row,
    }[relation]  # fmt: skip


def is_unseen(item: str, color: str) -> bool:
    """Whether training images never show that item in that color: 8 of 64 pairs, one for each item and color."""
    return (list(COLORS).index(color) + list(ITEMS).index(item)) % 8 == 3


PAIRS = {
    "seen": [pair for pair in product(ITEMS, COLORS) if not is_unseen(*pair)],
    "unseen": [pair for pair in product(ITEMS, COLORS) if is_unseen(*pair)],
}


def caption(task: str, requirement: dict, random: Random) -> str:
    """One of the task's phrasings of a requirement (see `scenes.Scene`), each equally likely."""
    first, last = requirement["things"][0], requirement["things"][-1]
    relation = requirement["relation"]
    phrase = random.choice(TASKS[task].phrases).format(
        item=first["item"], items=plural(first["item"]), color=first["color"], number=NUMBERS[first["count"]],
        other=last["item"], other_color=last["color"], relation=relation and random.choice(RELATIONS[relation]),
    )  # fmt: skip
    text = random.choice(FRAMES).format(phrase=phrase, is_or_are="is" if first["count"] == 1 else "are")
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def plural(item: str) -> str:
    return item + ("es" if item.endswith("s") else "s")


def all_words() -> list[str]:
    """All words of possible captions, sorted; captions separate words by blanks."""
    templates = [*FRAMES, *(phrase for task in TASKS.values() for phrase in task.phrases)]
    templates += [text for texts in RELATIONS.values() for text in texts]
    fixed = re.sub(r"\{\w+\}", " ", " ".join(templates)).split()
    return sorted({*fixed, "an", "is", "are", *NUMBERS.values(), *ITEMS, *map(plural, ITEMS), *COLORS})
