"""One run at a time in a folder; a lock that a killed run left locks nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from training.config.load import ConfigError, load_config
from training.export import main as export
from training.processes.lock import RunLock
from training.run.trainer import Trainer

from ..refusal import contents, error_of
from ..tiny import last_state, start, train, write_classes, write_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"), 3)


def test_second_run_in_a_folder(data, tmp_path, capsys):
    recipe, states = write_recipe(tmp_path, data), tmp_path / "run" / "states"
    process = start(recipe, "run.steps=1000000", "checkpoint.every=10")
    deadline = time.monotonic() + 60
    while not list(states.glob("*.pt")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    error = error_of(capsys, train(recipe, "run.steps=2000000"))
    assert f"run.folder={tmp_path / 'run'}: another run works in it (process {process.pid} on " in error
    assert "another run.folder" in error
    assert train(recipe, "--dry-run") == 0
    assert export([str(tmp_path / "run"), str(tmp_path / "out.safetensors")]) == 0
    assert process.poll() is None
    process.kill()
    process.communicate()
    step = last_state(tmp_path / "run")["step"]
    assert (tmp_path / "run" / ".lock").read_text()  # it says who was there, and holds nobody off
    assert train(recipe, f"run.steps={step + 1}") == 0
    assert last_state(tmp_path / "run")["step"] == step + 1


def test_two_runs_that_begin_at_once(data, tmp_path):
    """Neither finds a folder when it starts; the second one to write is refused, however late it comes."""
    recipe, folder = write_recipe(tmp_path, data), tmp_path / "run"
    runs = [Trainer(load_config(recipe)) for _ in range(2)]
    assert runs[0].train() == 0
    before = contents(folder)
    with pytest.raises(ConfigError, match="another run has begun in it"):
        runs[1].train()
    assert contents(folder) == before


def test_lock_is_given_back_by_refusals_and_errors(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=2") == 0
    assert "has params" in error_of(capsys, train(recipe, "run.steps=3", "model.depth=1"))
    lock = RunLock(tmp_path / "run")
    lock.acquire()
    with pytest.raises(ConfigError, match=r"another run works in it \(process \d+ on "):
        RunLock(tmp_path / "run").acquire()
    lock.release()
    assert train(recipe, "run.steps=3") == 0
