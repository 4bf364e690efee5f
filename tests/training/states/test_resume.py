"""What a run goes on from, or refuses to: no state, cached tensor or step is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tim_model.gemma import write_gemma
from training.data.images import read_image as images
from training.data.tensor_cache import TensorCache
from training.run.trainer import Trainer

from ..refusal import contents, error_of, names
from ..tiny import last_state, train, write_classes, write_picture, write_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"), 3)


def test_resume_of_another_network(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=2") == 0
    before = contents(tmp_path / "run" / "states")
    error = error_of(capsys, train(recipe, "run.steps=4", "model.depth=3"))
    assert "the state of step 2 has params" in error
    assert "the state of step 2 has lora" in error_of(capsys, train(recipe, "run.steps=4", "model.lora_rank=2"))
    assert contents(tmp_path / "run" / "states") == before


def test_states_that_another_start_would_drop(data, tmp_path, capsys):
    """A fresh run, an older state or another run's: none of them over the states that are there."""
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=4") == 0
    before = contents(tmp_path / "run" / "states")
    older = tmp_path / "run" / "states" / "step-00000002.pt"
    for resume in ("none", older, shutil.copy(older, tmp_path)):
        error = error_of(capsys, train(recipe, f"resume={resume}", "checkpoint.keep_last=1", "run.steps=6"))
        assert f"resume={resume}, but" in error and "resume=auto goes on from step-00000004.pt" in error
    assert contents(tmp_path / "run" / "states") == before
    assert train(recipe, f"resume={older}", f"run.folder={tmp_path / 'other'}", "run.steps=3") == 0
    assert last_state(tmp_path / "other")["step"] == 3
    assert train(recipe, f"resume={tmp_path / 'run'}", "run.steps=5") == 0  # a run folder means its newest state
    assert last_state(tmp_path / "run")["step"] == 5


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": cut, "empty": lambda path: path.write_bytes(b""), "other": lambda path: torch.save([1], path),
    "folder": make_folder,
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_newest_state_is_set_aside(data, tmp_path, capsys, damage):
    """The run goes on from the state before it, and what it then saves is not dropped for the damaged one."""
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=4") == 0
    damage(tmp_path / "run" / "states" / "step-00000004.pt")
    assert train(recipe, "run.steps=3", "checkpoint.keep_last=1") == 0
    assert "step-00000004.pt: " in (printed := capsys.readouterr().out)
    assert ": set aside, the run goes on from step 2\n" in printed
    assert names(tmp_path / "run" / "states") == ["step-00000003.pt", "step-00000004.damaged"]


def test_no_whole_state(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    assert "no such state" in error_of(capsys, train(recipe, "resume=nowhere.pt"))
    assert train(recipe, "run.steps=4") == 0
    for path in (tmp_path / "run" / "states").iterdir():
        path.write_bytes(b"broken")
    before = contents(tmp_path / "run" / "states")
    error = error_of(capsys, train(recipe))
    assert "step-00000004.pt: is no " in error and "holds no other that is whole" in error
    assert contents(tmp_path / "run" / "states") == before


def test_finished_run_is_left_as_it_is(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=2") == 0
    weights = load_file(tmp_path / "run" / "model-ema.safetensors")
    config = (tmp_path / "run" / "config.yaml").read_bytes()
    capsys.readouterr()
    assert train(recipe, "run.steps=2", "optimizer.lr=1") == 0
    output = capsys.readouterr().out
    assert f"nothing was trained: {tmp_path / 'run'} is at step 2, run.steps=2; a larger run.steps goes on" in output
    assert "wrote" not in output and "run.folder=" in output
    assert (tmp_path / "run" / "config.yaml").read_bytes() == config  # of what was trained
    again = load_file(tmp_path / "run" / "model-ema.safetensors")
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    (tmp_path / "run" / "model-ema.safetensors").unlink()  # as where it was killed before it wrote them
    assert train(recipe, "run.steps=2") == 0
    assert load_file(tmp_path / "run" / "model-ema.safetensors").keys() == weights.keys()


def test_run_whose_time_is_up_is_left_as_it_is(data, tmp_path, capsys):
    """It went a step further with every call."""
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.max_minutes=1e-9") == 0
    capsys.readouterr()
    assert train(recipe, "run.max_minutes=1e-9") == 0
    assert "nothing was trained: run.max_minutes=1e-09 ended the run at step 1 of 8" in capsys.readouterr().out
    assert last_state(tmp_path / "run")["step"] == 1
    assert train(recipe, "run.max_minutes=0") == 0
    assert last_state(tmp_path / "run")["step"] == 8


def test_changed_data_is_said(data, tmp_path, capsys):
    folder = write_classes(tmp_path / "data", 3)
    recipe = write_recipe(tmp_path, folder)
    assert train(recipe, "run.steps=2") == 0
    write_picture(folder / "dog" / "new.png", seed=9)
    assert train(recipe, "run.steps=3", "resume_changed=true") == 0
    assert "the data has changed since the state was written" in capsys.readouterr().out


def test_picture_that_is_gone_costs_no_step(tmp_path, capsys, monkeypatch):
    folder = write_classes(tmp_path / "data", 3)
    recipe = write_recipe(tmp_path, folder)
    report = Trainer.report

    def and_delete(run: Trainer, *arguments) -> None:
        report(run, *arguments)
        if run.progress.step == 3:
            shutil.rmtree(folder)

    monkeypatch.setattr(Trainer, "report", and_delete)
    error = error_of(capsys, train(recipe, "run.steps=20", "checkpoint.every=1000", "data.workers=0"))
    assert "No such file or directory" in error and ".png" in error
    assert names(tmp_path / "run" / "states") == ["step-00000003.pt"]


def test_picture_that_is_gone_from_the_start(data, tmp_path, capsys, monkeypatch):
    """No state is written of steps that were not made, lest it stand in the way of another try."""
    recipe = write_recipe(tmp_path, data)

    def broken(*_):
        raise OSError("gone")

    monkeypatch.setattr("training.data.image_dataset.to_tensor", broken)
    assert error_of(capsys, train(recipe)) == "error: gone"
    assert names(tmp_path / "run" / "states") == []


def test_interruption_while_files_are_checked(data, tmp_path, capsys, monkeypatch):
    """Those that are checked are not checked again."""
    read, seen = images.read_image, []

    def interrupted(path: Path):
        seen.append(path)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr("training.data.inspection.read_image", interrupted)
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=1") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; the same command goes on"
    assert train(recipe, "run.steps=1") == 0
    assert len(seen) < 2 * 6


def test_interruption_while_captions_are_encoded(tmp_path, monkeypatch):
    """Those that are encoded are not encoded again, and none is half there."""
    for i in range(5):
        write_picture(tmp_path / "data" / f"{i}.png", seed=i).with_suffix(".txt").write_text(f"fox {i}")
    recipe, encoder = write_recipe(tmp_path, tmp_path / "data"), write_gemma(tmp_path / "gemma")
    put, written = TensorCache.put, []

    def interrupted(cache: TensorCache, key: str, value: torch.Tensor) -> None:
        written.append(key)
        if len(written) == 4:
            raise KeyboardInterrupt
        put(cache, key, value)

    monkeypatch.setattr(TensorCache, "put", interrupted)
    options = ("run.steps=1", f"model.text_encoder={encoder}")
    assert train(recipe, *options) == 130
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 3
    assert not (tmp_path / "run").exists()
    assert train(recipe, *options) == 0
    assert len(written) == 4 + 4 and len(set(written)) == 7  # five captions, the empty one and the pad feature
