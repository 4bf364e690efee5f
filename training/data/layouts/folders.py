"""The files in a folder and its subfolders, in an order that does not depend on the file system."""

from __future__ import annotations

import heapq
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..images.kinds import ENDINGS
from .entries import count, some

SUFFIX = r"[-_]?(set|data|split|\d+)?"
TRAIN = re.compile(rf"train(ing)?{SUFFIX}", re.IGNORECASE)
OTHER_SPLIT = re.compile(rf"(val|valid|validation|test|testing|dev|eval|evaluation){SUFFIX}", re.IGNORECASE)


@dataclass(frozen=True)
class Tree:
    """Visible files in and below a folder, sorted by their names relative to it."""

    folder: Path
    files: list[Path]
    unread: list[tuple[Path, str]]  # folders that cannot be opened, with the reasons
    notes: list[str]

    def ending(self, *endings: str) -> list[Path]:
        """The files with one of these endings, in any case."""
        return [path for path in self.files if path.suffix.lower() in endings]

    def pictures(self) -> list[Path]:
        return self.ending(*ENDINGS)

    def top(self, path: Path) -> str:
        """The subfolder of this folder that contains a file, "" for none."""
        return inner_folder(self.folder, path)

    def name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def read_tree(folder: Path) -> Tree:
    """All files except hidden ones. Links to folders are followed; each folder is read once, rather not by a link."""
    files, unread, notes = [], [], []
    waiting, links, seen = [folder], [], set()
    while waiting or links:
        place = waiting.pop() if waiting else Path(heapq.heappop(links))
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                notes.append(f"{place.relative_to(folder).as_posix()}: links to a folder that is read already")
                continue
            seen.add((status.st_dev, status.st_ino))
            for item in visible(place):
                path = place / item.name
                if item.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif item.is_symlink() and os.path.isdir(path):
                    heapq.heappush(links, str(path))
                elif item.is_symlink() or item.is_file():  # broken links are reported later
                    files.append(path)
        except OSError as error:
            unread.append((place, f"cannot be read ({error.strerror})"))
    return Tree(folder, sorted(files, key=Path.as_posix), sorted(unread), notes)


def visible(folder: Path) -> Iterator[os.DirEntry]:
    with os.scandir(folder) as found:
        yield from (item for item in found if not item.name.startswith("."))


def training_split(tree: Tree) -> Tree:
    """The training split of a tree: its folder train, if the other folders are val or test, or if there are no others.

    The splits may be inside one common folder.
    """
    data = [path for path in tree.files if path.suffix.lower() in {*ENDINGS, ".safetensors"}]
    place = tree.folder
    while True:
        held = Counter(inner_folder(place, path) for path in data)
        stray = held.pop("", 0)
        train = [name for name in held if TRAIN.fullmatch(name)]
        if len(held) != 1 or stray or train:
            break
        place /= next(iter(held))
    others = [name for name in held if OTHER_SPLIT.fullmatch(name)]
    if len(train) != 1 or stray > held[train[0]] or len(held) > 1 and not others:
        return tree
    folder = place / train[0]
    left = [f"{tree.name(place / name)}/" for name in sorted(held) if name != train[0]]
    left += [count(stray, "image")] * bool(stray)
    note = f"only {tree.name(folder)}/ is read" + (f"; left alone: {some(left)}" if left else "")
    files = [path for path in tree.files if path.is_relative_to(folder)]
    unread = [(path, reason) for path, reason in tree.unread if path.is_relative_to(folder)]
    return Tree(folder, files, unread, [*tree.notes, note])


def inner_folder(folder: Path, path: Path) -> str:
    """The subfolder of `folder` that contains a file, "" for none."""
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else ""
