"""Writes scenes as a folder of training data, and prompts as a file for evaluation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from tim_model.files.tensor_files import atomic

from .captions import PAIRS, TASKS, Shape
from .prompts import Prompt
from .scene import Items, draw_scene, render


def write_images(folder: Path, items: Items, count: int, seed: int = 0) -> None:
    """Write scenes as a training folder of PNG files and metadata.jsonl; the folder appears only when complete.

    Raises:
        ValueError: the folder exists, or there is nothing to write.
    """
    if count < 1:
        raise ValueError(f"{folder}: {count} images wanted, expected at least 1")
    if folder.exists():
        raise ValueError(f"{folder}: exists, expected the name of a folder to make")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by an interrupted run
    lines = []
    for index in tqdm(range(count), "drawing scenes", unit="image", disable=None):
        scene = draw_scene(seed, index)
        name = f"{index // 1000:03d}/{index:06d}.png"
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render(scene, items)).save(partial / name)
        lines.append({"file_name": name, "text": scene.caption, "task": scene.task, "requirement": scene.requirement})
    write_jsonl(partial / "metadata.jsonl", lines)
    partial.rename(folder)


def write_prompts(path: Path, prompts: Sequence[Prompt]) -> None:
    """Write a file that `read_prompts` reads."""
    write_jsonl(path, [prompt.to_line() for prompt in prompts])


def write_jsonl(path: Path, lines: Sequence[dict]) -> None:
    with atomic(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def make_prompts(per_task: int, seed: int = 0, shape: Shape | None = None) -> list[Prompt]:
    """Prompts for evaluation: `per_task` of each task that fits, and as many of unseen combinations if it names colors.

    Args:
        shape: (columns, rows) of every canvas; None for training shapes.

    Raises:
        ValueError: there is no prompt to write.
    """
    prompts = []
    for combinations, (name, task) in product(PAIRS, TASKS.items()):
        if (combinations == "unseen" and not task.names_colors) or (shape and not task.layouts([shape])):
            continue
        for scene in (draw_scene(seed, index, combinations, name, shape) for index in range(per_task)):
            prompts.append(Prompt(name, scene.caption, *scene.size, scene.requirement, combinations == "unseen"))
    if not prompts:
        raise ValueError(f"no prompts: {per_task} for each task on {shape} cells, expected at least 1, and 1x1 cells")
    return prompts
