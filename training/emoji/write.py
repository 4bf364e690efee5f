"""Folders of images for training."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ..scenes.folder import write_jsonl
from .drawings import Drawings
from .render import render
from .scene import crowded_scene, draw_scene


def write_scenes(folder: Path, drawings: Drawings, count: int, seed: int = 0, crowded: bool = False) -> None:
    """Write scenes as a folder for training, of PNG files and metadata.jsonl; it appears when it is whole.

    Args:
        crowded: scenes of `crowded_scene`, whose captions mean nothing.

    Raises:
        ValueError: the folder exists, or there is nothing to write.
    """
    if count < 1:
        raise ValueError(f"{folder}: {count} images wanted, expected at least 1")
    if folder.exists():
        raise ValueError(f"{folder}: exists, expected the name of a folder to make")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of an interrupted run
    lines = []
    for index in tqdm(range(count), "drawing scenes", unit="image", disable=None):
        scene = crowded_scene(seed, index) if crowded else draw_scene(seed, index)
        name = f"{index // 1000:03d}/{index:06d}.png"
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render(scene, drawings)).save(partial / name, compress_level=1)
        lines.append({"file_name": name, "text": scene.caption, "task": scene.task, "requirement": scene.requirement})
    write_jsonl(partial / "metadata.jsonl", lines)
    partial.rename(folder)
