"""What a run cannot start or go on with: one line, exit status 1, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.cache import TensorCache

from .tiny import train, write_classes, write_picture, write_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"), 3)


def error_of(capsys, status: int) -> str:
    """The one line that a refusal prints."""
    assert status == 1
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "error" in line]
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_resume_of_another_network(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=2") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run" / "states").iterdir()}
    error = error_of(capsys, train(recipe, "run.steps=4", "model.depth=3"))
    assert "the state of step 2 has params" in error
    assert "the state of step 2 has lora" in error_of(capsys, train(recipe, "run.steps=4", "model.lora_rank=2"))
    assert {path: path.read_bytes() for path in (tmp_path / "run" / "states").iterdir()} == before


def test_fresh_run_over_an_old_one(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=2") == 0
    assert "resume=none, but" in error_of(capsys, train(recipe, "resume=none"))


def test_resume_from_what_is_no_state(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    assert "no such state" in error_of(capsys, train(recipe, "resume=nowhere.pt"))
    assert train(recipe, "run.steps=2") == 0
    newest = tmp_path / "run" / "states" / "step-00000002.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert "is no whole state" in error_of(capsys, train(recipe))


def test_finished_run_is_left_as_it_is(data, tmp_path):
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=2") == 0
    weights = load_file(tmp_path / "run" / "model-ema.safetensors")
    assert train(recipe, "run.steps=2") == 0
    again = load_file(tmp_path / "run" / "model-ema.safetensors")
    assert all(torch.equal(again[name], value) for name, value in weights.items())


def test_changed_data_is_said(data, tmp_path, capsys):
    folder = write_classes(tmp_path / "data", 3)
    recipe = write_recipe(tmp_path, folder)
    assert train(recipe, "run.steps=2") == 0
    write_picture(folder / "dog" / "new.png", seed=9)
    assert train(recipe, "run.steps=3") == 0
    assert "the data has changed since the state was written" in capsys.readouterr().out


def test_foreign_checkpoint(data, tmp_path, capsys):
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    error = error_of(capsys, train(write_recipe(tmp_path, data), f"model.checkpoint={path}"))
    assert "foreign.safetensors: is not a TiM checkpoint" in error


def test_checkpoint_with_too_few_classes(data, tmp_path, capsys):
    assert train(write_recipe(tmp_path, data, "base"), "run.steps=1") == 0
    weights = tmp_path / "base" / "model-ema.safetensors"
    more = write_classes(tmp_path / "more", 2)
    write_picture(more / "emu" / "0.png")
    error = error_of(capsys, train(write_recipe(tmp_path, more), f"model.checkpoint={weights}"))
    assert "has 3 classes, the checkpoint knows 2" in error


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampling.classes=[emu]", "class 'emu': expected a number from 0 to 1, or a name: cat, dog"),
        ("sampling.size=[17, 16]", "size 17x16: expected multiples of 4"),
        ("data.resolution=2", "data.resolution=2: expected at least 4, the pixels of one token"),
        ("run.precision=fp16", "run.precision=fp16"),
        ("model.vae=nowhere", "nowhere: no such file"),
        ("data.path=nowhere", "data.path=nowhere: no such folder"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(data, tmp_path, capsys, override, message):
    recipe = write_recipe(tmp_path, data)
    assert message in error_of(capsys, train(recipe, "data.max_aspect=1", "sampling.every=2", override))
    assert not (tmp_path / "run").exists()


def test_run_folder_that_is_a_file(data, tmp_path, capsys):
    (tmp_path / "run").write_text("occupied")
    assert "run" in error_of(capsys, train(write_recipe(tmp_path, data)))
    assert (tmp_path / "run").read_text() == "occupied"


def test_full_disk_while_a_state_is_written(data, tmp_path, capsys, monkeypatch):
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=2") == 0

    def full(*_):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    error = error_of(capsys, train(recipe, "run.steps=4"))
    assert "step-00000004.pt: cannot be written" in error and "the newest whole state is" in error
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "run" / "states").iterdir()] == ["step-00000002.pt"]
    assert train(recipe, "run.steps=4") == 0


def test_damaged_cache_names_the_file(tmp_path):
    cache = TensorCache(tmp_path)
    cache.put("abc", torch.zeros(3))
    cache.path("abc").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"abc\.safetensors: cannot be read .*delete it and start again"):
        cache.get("abc")
