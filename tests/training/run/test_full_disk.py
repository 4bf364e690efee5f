"""A full disk at every kind of write: one line that names the file, and nothing half-written."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from training.data.tensor_cache import TensorCache
from training.export import main as export
from training.run.logs import Logs, read_csv

from ..refusal import contents, error_of, names
from ..tiny import train, write_classes, write_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"), 1)


@contextmanager
def full_disk(size: int):
    """No file can become longer than `size` bytes: writes fail halfway, as on a full disk, whoever makes them."""
    resource = pytest.importorskip("resource", reason="limits of processes are POSIX")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("size", "steps", "name"),
    [(100, 2, "files.json"), (1000, 2, "config.yaml"), (4000, 50, "log.csv"), (500_000, 6, "step-00000002.pt")],
)  # fmt: skip
def test_full_disk(data, tmp_path, capsys, size, steps, name):
    """Nothing half-written is left, and the same command makes the run once there is space."""
    recipe = write_recipe(tmp_path, data)
    every = 2 if steps == 6 else 1000
    options = (f"run.steps={steps}", "run.log_every=1", f"checkpoint.every={every}")
    with full_disk(size):
        error = error_of(capsys, train(recipe, *options))
    assert f"{name}: cannot be written" in error
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.rglob("*.pt"))
    assert train(recipe, *options) == 0
    assert len(read_csv(tmp_path / "run" / "log.csv")) == steps


def test_full_disk_leaves_the_older_state(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=2") == 0
    before = contents(tmp_path / "run" / "states")
    with full_disk(500_000):
        error = error_of(capsys, train(recipe, "run.steps=4"))
    assert "step-00000004.pt: cannot be written" in error and "the newest whole state is" in error
    assert contents(tmp_path / "run" / "states") == before
    assert train(recipe, "run.steps=4") == 0


def test_full_disk_while_weights_are_written(data, tmp_path, capsys):
    assert train(write_recipe(tmp_path, data), "run.steps=2") == 0
    capsys.readouterr()
    with full_disk(100_000):
        error = error_of(capsys, export([str(tmp_path / "run"), str(tmp_path / "out.safetensors")]))
    assert "out.safetensors: cannot be written" in error
    assert names(tmp_path) == ["cache", "run", "run.yaml"]


def test_full_disk_does_without_a_sheet(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    options = ("run.steps=2", "sampling.every=1", "sampling.steps=[1]", "sampling.size=[64, 64]")
    with full_disk(10_000):
        train(recipe, *options)
    assert "no sample sheet step-00000001.png: [Errno 27]" in capsys.readouterr().out
    assert names(tmp_path / "run" / "samples") == []


def test_full_disk_while_the_cache_is_filled(tmp_path):
    cache = TensorCache(tmp_path)
    with full_disk(100), pytest.raises(ValueError, match=r"ab/abc\.safetensors: cannot be written") as error:
        cache.put("abc", torch.zeros(300))
    assert "\n" not in str(error.value)
    assert contents(tmp_path) == {} and "abc" not in cache


def test_tensorboard_that_cannot_write(tmp_path, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    logs = Logs(tmp_path, 0, tensorboard=False)
    logs.board = SimpleNamespace(add_scalar=full)
    for step in (1, 2):
        logs.write(step, {"loss": 1.0})
    assert [row["step"] for row in read_csv(tmp_path / "log.csv")] == ["1", "2"]
    assert capsys.readouterr().out.count("TensorBoard cannot write (No space left on device)") == 1
