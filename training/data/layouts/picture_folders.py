"""Layouts without a table: captions beside images, a folder for each class, and folders N_name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .entries import Entry, Layout, count, some
from .folders import Tree
from .sidecars import Sidecars

REPEATS = re.compile(r"([1-9]\d{0,2})_(.*\S.*)")  # 10_name: ten times an epoch, as kohya's scripts read it


def picture_folders(tree: Tree, class_names: Sequence[str], instance_prompt: str = "") -> Layout:
    """Images with captions or in class folders, by what most images have.

    Folders that `class_names` names are always classes. If every folder is called N_name, they are read as in kohya's
    scripts: N repeats of each image, and the name is the caption of images without a caption file. With an
    `instance_prompt`, that is their caption everywhere, and other folders are no classes.
    """
    pictures, sidecars = tree.pictures(), Sidecars(tree.files)
    captioned = [path for path in pictures if sidecars.of(path)]
    inside = [path for path in pictures if path.parent != tree.folder]
    named = any(tree.top(path) in class_names for path in inside)
    if inside and not named and all(repeats(tree, path) for path in inside):
        return repeated_folders(tree, pictures, sidecars, instance_prompt)
    many = f"{len(captioned)} of {count(len(pictures), 'image')} with a caption file"
    classes = not instance_prompt and 2 * len(captioned) < len(pictures) <= 2 * len(inside)
    if inside and (named or classes):
        unused = [sidecars.of(path)[0] for path in captioned]
        return class_folders(tree, pictures, unused, many)
    entries = [sidecars.entry(path, instance_prompt) for path in pictures]
    notes = [*sidecars.notes(entries), *prompt_notes(instance_prompt, len(pictures) - len(captioned))]
    return Layout("captions", f"a text file beside each image: {many}", entries, notes=notes)


def prompt_notes(instance_prompt: str, uncaptioned: int) -> list[str]:
    """A remark on the images whose caption is the instance prompt, or on an instance prompt that none takes."""
    if not instance_prompt:
        return []
    if not uncaptioned:
        return [f"the instance prompt {instance_prompt!r} is not used: all images have caption files"]
    many = f"{count(uncaptioned, 'image')} without a caption file"
    return [f"the instance prompt {instance_prompt!r} is the caption of {many}"]


def class_folders(tree: Tree, pictures: list[Path], unused: list[Path], many: str) -> Layout:
    """A class for each folder directly in the tree's; images outside these folders are not used."""
    problem = "lies in no class folder"
    entries = [Entry(p, label=tree.top(p)) if tree.top(p) else Entry(p, problem=problem) for p in pictures]
    names = sorted({e.label for e in entries if not e.problem}, key=lambda name: (name.isdigit() * len(name), name))
    notes = [f"caption files that are not used: {some([tree.name(p) for p in unused])}"] if unused else []
    if len(names) == 1 and all(len(p.relative_to(tree.folder).parts) > 2 for p in pictures):
        advice = f"if the folders in it are the classes, set data.path={tree.folder / names[0]}"
        notes.append(f"all images are of one class, {names[0]}; {advice}")
    reading = f"a class for each of {count(len(names), 'folder')} ({some(names)}): {many}"
    return Layout("classes", reading, entries, notes=notes)


def repeated_folders(tree: Tree, pictures: list[Path], sidecars: Sidecars, instance_prompt: str) -> Layout:
    """Captions, with the repeats that the names of folders N_name state."""
    entries, uncaptioned = [], []
    for path in pictures:
        times, name = repeats(tree, path) or (1, "")
        entry = sidecars.entry(path, instance_prompt or name)
        if name and not sidecars.of(path):
            uncaptioned.append(tree.name(path))
        entries.append(replace(entry, repeats=times))
    folders = sorted({tree.name(path.parent) for path in pictures if path.parent != tree.folder})
    reading = f"folders named N_name, each image N times an epoch: {some(folders)}"
    notes = sidecars.notes(entry for entry in entries if sidecars.of(entry.path))
    if instance_prompt:
        missing = sum(not sidecars.of(path) for path in pictures)
        return Layout("repeated folders", reading, entries, notes=[*notes, *prompt_notes(instance_prompt, missing)])
    if len(uncaptioned) == len(pictures):
        reading += ", the name as its caption; folders that data.class_names lists are classes"
    if uncaptioned:
        many = f"{count(len(uncaptioned), 'image')} without a caption file"
        notes.append(f"the folder's name is the caption of {many}: {some(uncaptioned)}")
    return Layout("repeated folders", reading, entries, notes=notes)


def repeats(tree: Tree, path: Path) -> tuple[int, str] | None:
    """The number and the name of the innermost folder N_name around an image."""
    parts = path.relative_to(tree.folder).parts[:-1]
    match = next(filter(None, map(REPEATS.fullmatch, reversed(parts))), None)
    return (int(match[1]), match[2].strip()) if match else None
