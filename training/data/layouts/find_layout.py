"""Recognizes the layout of a folder of training data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..images.kinds import ENDINGS, OTHER_ENDINGS, reason_not_read
from .entries import Entry, Layout, count, some
from .folders import Tree, read_tree, training_split
from .masks import mask_notes, masks_of, split_masks, unread_masks
from .metadata import TABLES, metadata_layout, metadata_tables
from .picture_folders import picture_folders
from .upstream import TABLE, upstream_layout

IDX_IMAGES = "*-images-idx3-ubyte*"
LATENTS = ".safetensors"


def read_layout(
    folder: Path, class_names: Sequence[str] = (), instance_prompt: str = "", masks: bool = False
) -> Layout:
    """The layout of a folder: files of MNIST, a table, ready-made latents, or images with captions or in class folders.

    Args:
        class_names: folders with these names are always classes.
        instance_prompt: the caption of images without a caption file; all other folders are no classes then.
        masks: whether files NAME-masklabel.png are masks, not images.

    Raises:
        ValueError: no such folder, no training data in it, or a table that cannot be read.
    """
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "no such folder"
        raise ValueError(f"data.path={folder}: {kind}, expected a folder with training data")
    tree = read_tree(folder)
    if idx := [path for path in tree.files if path.parent == folder and fnmatch(path.name, IDX_IMAGES)]:
        return Layout("idx", "files of (Fashion-)MNIST", files=idx)
    if not any((folder / name).is_file() for name in (TABLE, *TABLES)):
        tree = training_split(tree)
    if not masks:
        layout = tree_layout(tree, class_names, instance_prompt)
        return completed(layout, tree, unread_masks(tree))
    tree, files = split_masks(tree)
    layout = tree_layout(tree, class_names, instance_prompt)
    pictures = [entry.path for entry in layout.entries if not entry.problem]
    found = masks_of(pictures, files)
    return completed(replace(layout, masks=found), tree, mask_notes(tree, found, len(pictures), files))


def completed(layout: Layout, tree: Tree, notes: Sequence[str]) -> Layout:
    """A layout with the folders that cannot be read, and with all remarks."""
    unread = [Entry(path, problem=reason) for path, reason in tree.unread]
    return replace(layout, entries=[*layout.entries, *unread], notes=[*tree.notes, *layout.notes, *notes])


def tree_layout(tree: Tree, class_names: Sequence[str], instance_prompt: str) -> Layout:
    if (tree.folder / TABLE).is_file():
        return upstream_layout(tree)
    if tables := metadata_tables(tree):
        return metadata_layout(tree, tables)
    pictures, latents = tree.pictures(), tree.ending(LATENTS)
    if not pictures and not latents:
        raise ValueError(f"data.path={tree.folder}: holds no images ({', '.join(sorted(ENDINGS))}) and {others(tree)}")
    # a few latents next to images are a cache, not data
    if len(latents) > len(pictures) and (not pictures or any(map(is_class_latent, latents[:10]))):
        strays = [Entry(path, problem="is an image among ready-made latents") for path in pictures]
        return Layout("latents", f"one {LATENTS} for each image", strays, latents)
    layout = picture_folders(tree, class_names, instance_prompt)
    note = [f"not used beside images: {some([tree.name(path) for path in latents])}"] if latents else []
    unread = [Entry(path, problem=reason_not_read(path)) for path in tree.ending(*OTHER_ENDINGS)]
    return replace(layout, entries=[*layout.entries, *unread], notes=[*layout.notes, *note])


def others(tree: Tree) -> str:
    """The message for a folder without images: what was expected, and what was found."""
    found = Counter(path.suffix.lower() for path in tree.files if path.suffix).most_common()
    convert = ", ".join(sorted({path.suffix for path in tree.ending(*OTHER_ENDINGS)}))
    text = f"no latents ({LATENTS})"
    text += f"; found {some([count(n, f'{ending} file') for ending, n in found])}" if found else ""
    text += f"; convert its {convert} files to PNG or JPEG" if convert else ""
    return text + "".join(f"; {path} {reason}" for path, reason in tree.unread[:1])


def is_class_latent(path: Path) -> bool:
    """Whether a file has the released class-latent layout, by its header."""
    try:
        with safe_open(path, "pt") as file:
            return {"latent", "label"} <= set(file.keys())
    except (OSError, SafetensorError):
        return False
