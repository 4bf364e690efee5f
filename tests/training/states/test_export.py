"""Weights out of states."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tim_model.checkpoint import read_checkpoint
from training.export import main

from ..tiny import last_state, train, write_classes, write_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    assert train(write_recipe(folder, write_classes(folder / "data", 3)), "run.steps=3", "ema.decay=0.5") == 0
    return folder / "run"


@pytest.mark.parametrize(("options", "kind"), [([], "ema"), (["--raw"], "raw")])
def test_exports_the_newest_state_of_a_run(run, tmp_path, options, kind):
    out = tmp_path / "out.safetensors"
    assert main([str(run), str(out), *options]) == 0
    checkpoint = read_checkpoint(out)
    state = last_state(run)
    expected = state["ema"]["net"] if kind == "ema" else state["net"]
    assert checkpoint.state_dict.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in checkpoint.state_dict.items())
    assert (checkpoint.metadata["step"], checkpoint.metadata["weights"]) == ("3", kind)
    assert checkpoint.metadata["recipe"].startswith("model:")
    assert checkpoint.class_names == ["cat", "dog"]


def test_exports_one_state(run, tmp_path):
    path = run / "states" / "step-00000002.pt"
    assert main([str(path), str(tmp_path / "out.safetensors")]) == 0
    assert read_checkpoint(tmp_path / "out.safetensors").metadata["step"] == "2"


@pytest.mark.parametrize(
    ("state", "out", "message"),
    [
        ("none", "a.safetensors", "none: no such state"), ("", "a.safetensors", "holds no states"),
        ("run", "a.bin", "a.bin: expected a name that ends in .safetensors"),
        ("run", "no/a.safetensors", "does not exist"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(run, tmp_path, capsys, state, out, message):
    source = run if state == "run" else tmp_path / state
    assert main([str(source), str(tmp_path / out)]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_runs_as_a_command(tmp_path):
    command = [sys.executable, "-m", "training.export", str(tmp_path / "none"), str(tmp_path / "out.safetensors")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: ")
