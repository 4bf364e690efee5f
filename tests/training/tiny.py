"""A training run that takes seconds: a dozen small pictures in two classes, and a network of 50 thousand weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from training.train import main

ROOT = Path(__file__).resolve().parents[2]
RECIPE = {
    "model": {"patch_size": 4, "hidden_size": 32, "depth": 2, "num_heads": 2},
    "data": {"batch_size": 6, "resolution": 16, "workers": 0},
    "optimizer": {"lr": 1e-3},
    "sampling": {"every": 0},
    "checkpoint": {"every": 2},
    "run": {"steps": 8, "precision": "fp32", "cpu": True, "log_every": 2, "tensorboard": False},
}


def write_picture(path: Path, size: tuple[int, int] = (16, 16), seed: int = 0, mode: str = "RGB") -> Path:
    """A picture with one smooth gradient, another one for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    levels = rows[..., None] * random.uniform(0, 8, 3) + columns[..., None] * random.uniform(0, 8, 3)
    Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert(mode).save(path)
    return path


def write_classes(folder: Path, count: int = 8) -> Path:
    """`count` pictures in each of the class folders "cat" and "dog", some of them wide; returns the folder."""
    for i in range(count):
        write_picture(folder / "cat" / f"{i}.png", seed=i)
        write_picture(folder / "dog" / f"{i}.png", (20, 12) if i % 2 else (16, 16), seed=100 + i)
    return folder


def write_recipe(folder: Path, data: Path, name: str = "run") -> Path:
    """A recipe for `data`, whose run folder and cache lie in `folder`; returns its path."""
    recipe = {**RECIPE, "data": {**RECIPE["data"], "path": str(data), "cache": str(folder / "cache")}}
    recipe["run"] = {**RECIPE["run"], "folder": str(folder / name)}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def train(recipe: Path, *overrides: str) -> int:
    return main([str(recipe), *overrides])


def start(recipe: Path, *overrides: str, processes: int = 1) -> subprocess.Popen:
    """The training command as a process of its own, or as several under torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "training.train", str(recipe), *overrides]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def last_state(folder: Path) -> dict:
    return torch.load(max((folder / "states").glob("*.pt")), weights_only=True)
