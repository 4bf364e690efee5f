"""What captions of EmojiScenes speak of, and how: plain English in lower case, without punctuation."""

from __future__ import annotations

import re
from itertools import product
from random import Random

from ..scenes.captions import FRAMES, NUMBERS, RELATIONS, Task
from .things import COLORS, NAMED_STYLES, THINGS

TASKS = {
    "single_object": Task(("a {style} {item}", "one {style} {item}", "{style} {item}")),
    "two_object": Task(("a {style} {item} and a {style} {other}", "a {style} {item} with a {style} {other}"), 2),
    "counting": Task(("{number} {style} {items}", "exactly {number} {style} {items}"), counts=(2, 3, 4)),
    "colors": Task(("a {style} {color} {item}", "one {color} {style} {item}", "a {style} {item} in {color}")),
    "position": Task(("a {style} {item} {relation} a {style} {other}",), 2, relations=tuple(RELATIONS)),
    "color_attribution": Task(
        (
            "a {color} {style} {item} and a {other_color} {style} {other}",
            "a {color} {style} {item} with a {other_color} {style} {other}",
        ),
        items=2,
    ),
}
NAMES_COLORS = ("colors", "color_attribution")
# On a background by name; the first of each is the shortest.
GROUNDS = (" on {ground}", " on a {ground} background", " in front of a {ground} background")
TEST_FRAMES = ("an emoji of {phrase}", "an illustration of {phrase}", "a drawing showing {phrase}")  # not in training


def is_unseen(item: str, color: str) -> bool:
    """Whether no image for training shows that thing in that color: an eighth of all pairs, 15 of each color."""
    return (list(COLORS).index(color) + list(THINGS).index(item)) % len(COLORS) == 3


def is_unseen_style(item: str, style: str) -> bool:
    """Whether no caption for training names that style of that thing, an eighth of them; images of it there are."""
    return (list(NAMED_STYLES).index(style) * 3 + list(THINGS).index(item)) % 8 == 5


def is_unseen_pair(item: str, other: str) -> bool:
    """Whether no image for training shows these two things together, in either order: about a tenth of all."""
    first, second = sorted((list(THINGS).index(item), list(THINGS).index(other)))
    return (31 * first + 17 * second) % 10 == 0


PAIRS = {
    "seen": [pair for pair in product(THINGS, COLORS) if not is_unseen(*pair)],
    "unseen": [pair for pair in product(THINGS, COLORS) if is_unseen(*pair)],
}


def caption(task: str, requirement: dict, random: Random, split: str = "train") -> str:
    """One of the task's phrasings of a requirement (see `scene.EmojiScene`); half of them without a frame.

    Args:
        split: "train", or "test" for frames that training has not.
    """
    first, last = requirement["things"][0], requirement["things"][-1]
    relation, style, ground = requirement["relation"], requirement["style"], requirement["background"]
    phrase = random.choice(TASKS[task].phrases).format(
        item=first["item"], items=THINGS[first["item"]][0], color=first["color"], number=NUMBERS[first["count"]],
        other=last["item"], other_color=last["color"], style=style or "",
        relation=relation and random.choice(RELATIONS[relation]),
    )  # fmt: skip
    frames = TEST_FRAMES if split == "test" else (FRAMES[0],) * (len(FRAMES) - 2) + FRAMES[1:]
    text = random.choice(frames).format(phrase=phrase, is_or_are="is" if first["count"] == 1 else "are")
    text += random.choice(GROUNDS).format(ground=ground) if ground else ""
    return re.sub(r"\ba (?=[aeiou])", "an ", " ".join(text.split()))
