"""Commands on a console of Windows, whose encoding has few letters: they print escapes, and do their work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tim_model.golden import FOLDER
from tests.training.tiny import write_classes, write_recipe
from tim_model import load_checkpoint, save_checkpoint


def run(root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command whose streams are in cp1252, as on a Windows of Western Europe."""
    variables = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=root, env=variables, capture_output=True, encoding="cp1252", check=False)


def test_inspect_prints_what_the_console_lacks_as_escapes(root, tmp_path):
    net = load_checkpoint(FOLDER / "c2i_weights.safetensors")
    path = tmp_path / "café 猫.safetensors"
    save_checkpoint(net, path, metadata={"class_names": '["caf\\u00e9", "猫"]'})
    result = run(root, "tim_model", "inspect", path)
    assert result.returncode == 0, result.stderr
    assert "café, \\u732b" in result.stdout and "café \\u732b.safetensors" in result.stdout


@pytest.mark.parametrize("options", [("--dry-run",), ("run.steps=1",)], ids=["dry run", "one step"])
def test_training_on_folders_with_any_names(root, tmp_path, options):
    folder = write_classes(tmp_path / "写真", count=3)
    shutil.move(folder / "cat", folder / "猫")
    recipe = write_recipe(tmp_path, folder)
    result = run(root, "training.train", recipe, *options)
    assert result.returncode == 0, result.stderr
    assert "\\u732b" in result.stdout or options[0] != "--dry-run"
