"""The result of reading a folder: an entry for each image, and how the folder was interpreted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One image of a layout, or the reason why it cannot be used."""

    path: Path
    captions: tuple[str, ...] = ()
    label: int | str | None = None
    bucket: tuple[int, int] | None = None  # (width, height) if the layout states it
    problem: str = ""
    repeats: int = 1  # how often an epoch contains it


@dataclass(frozen=True)
class Layout:
    """The interpretation of a folder."""

    name: str
    reading: str  # how the folder was interpreted, and why
    entries: list[Entry] = field(default_factory=list)  # none for "idx" and "latents", which have their own readers
    files: list[Path] = field(default_factory=list)  # of "latents", and the image files of "idx"
    notes: list[str] = field(default_factory=list)  # other files that were found and are ignored
    masks: dict[Path, Path] = field(default_factory=dict)  # of images that have one


def some(names: Sequence[object], most: int = 3) -> str:
    """The first few names, and the number of the rest."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def count(number: int, one: str, several: str = "") -> str:
    """A number and its noun: "1 image", "2 images", "2 classes"."""
    return f"{number} {one if number == 1 else several or one + 's'}"
