"""Loss masks beside images: NAME-masklabel.png for NAME.png, as OneTrainer writes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from .entries import count, some
from .folders import Tree
from .sidecars import same_name

MASK = "-masklabel"


def is_mask(path: Path) -> bool:
    """Whether a file is called like a mask."""
    return path.stem.endswith(MASK)


def split_masks(tree: Tree) -> tuple[Tree, list[Path]]:
    """A tree without its masks, and the masks."""
    masks = [path for path in tree.pictures() if is_mask(path)]
    taken = set(masks)
    return replace(tree, files=[path for path in tree.files if path not in taken]), masks


def masks_of(pictures: Iterable[Path], masks: Iterable[Path]) -> dict[Path, Path]:
    """The mask of each image that has one."""
    known: dict[str, Path] = {}
    for mask in masks:
        known.setdefault(same_name(str(mask.with_name(mask.stem.removesuffix(MASK)))), mask)
    found = ((picture, known.get(same_name(str(picture.with_suffix(""))))) for picture in pictures)
    return {picture: mask for picture, mask in found if mask is not None}


def mask_notes(tree: Tree, found: dict[Path, Path], pictures: int, masks: list[Path]) -> list[str]:
    """Remarks on images without a mask, and on masks without an image."""
    alone = [tree.name(mask) for mask in masks if mask not in {*found.values()}]
    notes = [f"masks without an image, left alone: {some(alone)}"] if alone else []
    if missing := pictures - len(found):
        notes.append(f"{count(missing, 'image')} of {pictures} without NAME{MASK}.png: the loss counts everywhere")
    return notes


def unread_masks(tree: Tree) -> list[str]:
    """A remark on files that are called like masks, but read as images."""
    named = [tree.name(path) for path in tree.pictures() if is_mask(path)]
    return [f"{some(named)} read as images, not as masks: data.masks=true reads them as such"] if named else []
