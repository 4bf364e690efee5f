"""What a layout reads from a folder: one entry for each picture, and how the folder was understood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One picture that a layout names, or the reason why it cannot be used."""

    path: Path
    captions: tuple[str, ...] = ()
    label: int | str | None = None
    bucket: tuple[int, int] | None = None  # (width, height) where the layout says
    problem: str = ""
    repeats: int = 1  # how often it comes in an epoch


@dataclass(frozen=True)
class Layout:
    """A folder as it was read."""

    name: str
    reading: str  # what was taken for what, and why
    entries: list[Entry] = field(default_factory=list)  # none for "idx" and "latents", which have their own readers
    files: list[Path] = field(default_factory=list)  # of "latents"
    notes: list[str] = field(default_factory=list)  # what was found beside that and is left alone


def some(names: Sequence[object], most: int = 3) -> str:
    """The first few of some names, and how many there are beyond."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def count(number: int, one: str, several: str = "") -> str:
    """A number and its noun: "1 picture", "2 pictures", "2 classes"."""
    return f"{number} {one if number == 1 else several or one + 's'}"
