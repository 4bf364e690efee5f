"""Prompts from files: lines of text, lines of JSON, a folder of text files, or the meta_data.json of MJHQ-30K."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..files.errors import CheckpointError, parse_json, prefix_errors

Size = tuple[int, int]  # (width, height) in pixels


@dataclass(frozen=True)
class Prompt:
    """What one or several images show.

    Attributes:
        text: the prompt, or the class of a class model, as a name or a number.
        size: of its images, where the file states one.
        name: of its files without the ending, where the file names them, such as "animals/0a1b".
        line: the line of a .jsonl file as it is.
    """

    text: str
    size: Size | None = None
    name: str = ""
    line: str = ""


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a folder, or of a .jsonl, .json or text file; empty lines are skipped.

    Raises:
        ValueError: no such file, no prompt, or a line that holds none; the message names file and line.
    """
    with prefix_errors(path):
        if path.is_dir():
            prompts = list(read_folder(path))
        elif path.suffix.lower() == ".jsonl":
            prompts = [parse_line(line, f"line {n}") for n, line in numbered_lines(path)]
        elif path.suffix.lower() == ".json":
            prompts = list(read_meta_data(path))
        else:
            prompts = [Prompt(line.strip()) for _, line in numbered_lines(path)]
        if not prompts:
            raise ValueError("holds no prompt, expected one a line, or a folder of .txt files")
    return prompts


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Lines that are not empty, and their numbers from 1."""
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return [(n, line.rstrip("\r")) for n, line in enumerate(lines, 1) if line.strip()]


def read_folder(path: Path) -> Iterator[Prompt]:
    """A prompt for each .txt file, by name; without the space around it."""
    for file in sorted(path.glob("*.txt")):
        yield Prompt(file.read_text(encoding="utf-8-sig").strip(), name=file.name.partition(".")[0])


def read_meta_data(path: Path) -> Iterator[Prompt]:
    """The entries of MJHQ-30K: {"<name>": {"category": ..., "prompt": ...}, ...}."""
    content = parse_json(path.read_bytes())
    for name, entry in content.items() if isinstance(content, dict) else [("", content)]:
        category = entry.get("category") if isinstance(entry, dict) else None
        if not isinstance(category, str) or {"/", "\\", ".."} & {*category, *name, category, name}:
            raise ValueError(f"{name or entry!r:.80}: expected an object of names with a category and a prompt each")
        yield Prompt(prompt_of(entry, name), size_of(entry, name), f"{category}/{name}")


def parse_line(line: str, place: str) -> Prompt:
    """The prompt of a line of JSON; further entries, such as those of GenEval, are kept in `line`."""
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place} is no JSON ({error})") from None
    return Prompt(prompt_of(entry, place), size_of(entry, place), line=line)


def prompt_of(entry: object, place: str) -> str:
    text = entry.get("prompt") if isinstance(entry, dict) else None
    if not isinstance(text, str):
        raise CheckpointError(
            f'{place}: expected an object with a "prompt", such as {{"prompt": "a photo of a bench"}}'
        )
    return text


def size_of(entry: dict, place: str) -> Size | None:
    """`width` and `height` of an entry, where it has them."""
    size = entry.get("width"), entry.get("height")
    if size == (None, None):
        return None
    if not all(type(side) is int and side > 0 for side in size):
        raise ValueError(f"{place}: width and height {size[0]!r} and {size[1]!r}, expected pixels for both, or neither")
    return size
