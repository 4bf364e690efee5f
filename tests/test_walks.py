"""The walks in docs/development.md name the files that a real training step and a real generation pass, in order."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType

import yaml
from PIL import Image

import tim_model
import training
from tim_model.__main__ import main as generate
from training.run.step_loss import StepLoss
from training.train import main as train

PACKAGES = (tim_model, training)
AROUND = (
    "training/processes/",
    "training/states/",
    "training/optim/",
    "tim_model/console.py",
)  # no sample passes these
AROUND += tuple(
    f"training/run/{name}.py" for name in ("logs", "preflight", "progress", "reporter", "sample_sheet", "sheet_reports")
)
STACK = {
    "model": "diffusion_models/tim-fashion-scenes-t2i",
    "text-encoder": "text_encoders/gemma-fashion-scenes",
    "vae": "vae/dc-ae-fashion-scenes",
}


class Reached(Exception):
    """The walk is at its end."""


@contextmanager
def visits(root: Path, last: CodeType | None = None) -> Iterator[list[str]]:
    """The files of both packages in the order of their first calls inside; ends when `last` has returned."""
    for package in PACKAGES:  # so that nothing inside is an import
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    folders = tuple(f"{root / package.__name__}/" for package in PACKAGES)
    seen: dict[str, None] = {}

    def note(frame, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(folders):
            seen[Path(frame.f_code.co_filename).relative_to(root).as_posix()] = None
        elif event == "return" and frame.f_code is last:
            sys.setprofile(None)

    files: list[str] = []
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield files
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        files.extend(seen)


def walk(root: Path, title: str) -> list[str]:
    """The files of a walk in docs/development.md: the first name in each of its numbered lines."""
    text = (root / "docs" / "development.md").read_text(encoding="utf-8")
    section = text.partition(f"\n### {title}\n")[2].partition("\n#")[0]
    return re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE)


def check_walk(root: Path, title: str, traced: list[str]) -> None:
    written = walk(root, title)
    assert written == traced, f"docs/development.md, {title}: traced\n" + "\n".join(traced)
    assert len(set(written)) == len(written)


def bundled(root: Path, name: str) -> str:
    return str(root / "models" / f"{STACK[name]}.safetensors")


def test_walk_of_a_sample(root, tmp_path):
    """Captioned images for a text model, from the command to the loss of the first step."""
    data = tmp_path / "data"
    data.mkdir()
    for i in range(4):
        Image.new("RGB", (64, 64), (60 * i, 40, 90)).save(data / f"{i}.png")
        (data / f"{i}.txt").write_text("a photo of a red bag")
    recipe = {
        "model": {"patch_size": 1, "hidden_size": 32, "depth": 1, "num_heads": 2},
        "data": {"path": str(data), "cache": str(tmp_path / "cache"), "batch_size": 4, "resolution": 64},
        "optimizer": {"lr": 1e-3},
        "sampling": {"every": 0},
        "run": {"steps": 1, "precision": "fp32", "cpu": True, "tensorboard": False, "folder": str(tmp_path / "run")},
    }
    recipe["model"] |= {"vae": bundled(root, "vae"), "text_encoder": bundled(root, "text-encoder")}
    recipe["data"] |= {"workers": 0, "held_out": 0}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with visits(root, StepLoss.__call__.__code__) as files:
        assert train([str(tmp_path / "recipe.yaml")]) == 0
    check_walk(root, "One sample, from file to loss", [f for f in files if not f.startswith(AROUND)])


def test_walk_of_a_prompt(root, tmp_path):
    """One image of the demo stack, from the command line to the file."""
    stack = [word for name in STACK for word in (f"--{name}", bundled(root, name))]
    target = tmp_path / "bag.png"
    command = ["generate", *stack, "--prompt", "a green bag", "--steps", "2", "--size", "32x32", "--out", str(target)]
    with visits(root) as files:
        assert generate(command) == 0
    with Image.open(target) as image:
        assert image.size == (32, 32)
    check_walk(root, "One prompt, from text to PNG", files)
