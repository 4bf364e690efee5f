"""The kinds of scenes that models generate and evaluation scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..emoji.drawings import read_drawings
from ..emoji.prompts import make_prompts as make_emoji_prompts
from ..emoji.prompts import parse_requirement as parse_emoji_requirement
from ..emoji.scene import CELL as EMOJI_CELL
from ..scenes.captions import Shape
from ..scenes.folder import make_prompts
from ..scenes.prompts import Check, Prompt, parse_requirement
from ..scenes.scene import CELL, Items
from .bundled import BUNDLED, EMOJI_STACK
from .recognizers import SceneRecognizer, load_emoji_recognizer, load_fashion_recognizer


@dataclass(frozen=True)
class Kind:
    """The settings of evaluation for a kind of scenes.

    Args:
        cell: pixels of a cell's side; sides of canvases are multiples of it.
        files: default paths of its stack, classifier and data.
        make_prompts: makes prompts from a number for each task, a seed and a shape.
        check: returns the checked requirement of a prompt.
        read_data: reads the source of real scenes from a folder.
    """

    name: str
    cell: int
    files: Mapping[str, Path]
    make_prompts: Callable[[int, int, Shape | None], list[Prompt]]
    check: Check
    load_recognizer: Callable[[Path], SceneRecognizer]
    read_data: Callable[[Path], object]


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "fashion", CELL, BUNDLED, make_prompts, parse_requirement, load_fashion_recognizer,
            lambda folder: Items(folder, "test"),
        ),
        Kind(
            "emoji", EMOJI_CELL, EMOJI_STACK, make_emoji_prompts, parse_emoji_requirement, load_emoji_recognizer,
            read_drawings,
        ),
    )
}  # fmt: skip
DEFAULT = "fashion"


def kind_of(path: Path) -> str:
    """The kind of scenes in a file of prompts: stated in its first line, else the default.

    Raises:
        ValueError: another kind than those of `KINDS`.
    """
    try:
        line = json.loads(next(text for text in path.read_text(encoding="utf-8").split("\n") if text.strip()))
    except (OSError, ValueError, StopIteration):
        return DEFAULT  # the error is reported when the prompts are read
    name = line.get("scenes", DEFAULT) if isinstance(line, dict) else DEFAULT
    if name not in KINDS:
        raise ValueError(f"{path}: prompts for scenes {name!r}, expected {' or '.join(KINDS)}")
    return name
