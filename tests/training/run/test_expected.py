"""Runs with what trainers of real models expect: all of it resumes, and is the same on any number of processes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.tim_model.gemma import write_gemma
from training.optim.named import LIBRARIES

from ..data.layouts.test_masks import mask
from ..refusal import error_of
from ..tiny import last_state, start, train, write_classes, write_picture, write_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"), 4)


@pytest.fixture(scope="module")
def captions(tmp_path_factory) -> Path:
    """Folders "art" and "photos" with captions of several lines, tags and masks, and the folder of a text encoder."""
    folder = tmp_path_factory.mktemp("captions")
    for i in range(5):
        path = write_picture(folder / "art" / f"{i}.png", seed=i)
        path.with_suffix(".txt").write_text(f"red, cat {i}, hat\na dog, {i}, tree")
        mask(path.with_name(f"{i}-masklabel.png"))
        write_picture(folder / "photos" / f"{i}.png", (20, 12), seed=50 + i)
    write_gemma(folder / "gemma")
    return folder


def everything(captions: Path) -> list[str]:
    art, photos = captions / "art", captions / "photos"
    folders = f"[{{path: {art}, weight: 1.5}}, {{path: {photos}, regularization: true, loss_weight: 0.5"
    return [
        "data.path=", f"data.folders={folders}, instance_prompt: a photo}}]", "data.trigger_word=sks",
        "data.caption_per_line=true", "data.shuffle_tags=3", "data.keep_tags=1", "data.masks=true",
        "data.unmasked_weight=0.1", f"model.text_encoder={captions / 'gemma'}", "optimizer.eps=1e-3",
    ]  # fmt: skip


def same(a: object, b: object) -> bool:
    """Whether two parts of states are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_resumes(folder: Path, data: Path, *options: str) -> None:
    """Six steps, and six of which the last two are made by another session, end in the same state."""
    assert train(write_recipe(folder, data, "whole"), *options) == 0
    shutil.copytree(folder / "whole", folder / "parts")
    (folder / "parts" / "states" / "step-00000006.pt").unlink()
    assert last_state(folder / "parts")["step"] == 4
    assert train(write_recipe(folder, data, "parts"), *options) == 0
    one, other = (last_state(folder / name) for name in ("whole", "parts"))
    for part in ("step", "net", "ema", "optimizer"):
        assert same(one[part], other[part]), part


@pytest.mark.parametrize("name", LIBRARIES)
def test_optimizers_resume(data, tmp_path, name):
    """Their moments, and what prodigy found of its rate."""
    pytest.importorskip(LIBRARIES[name], exc_type=ImportError)
    options = [f"optimizer.name={name}", "optimizer.lr=0.01", "optimizer.schedule=linear", "optimizer.warmup=2"]
    assert_resumes(tmp_path, data, *options, "run.steps=6")


def test_state_of_another_optimizer(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=2") == 0
    error = error_of(capsys, train(recipe, "run.steps=4", "optimizer.name=adafactor"))
    assert "the state of step 2 is of optimizer.name=adamw, here adafactor: another run.folder=" in error
    assert "model.checkpoint" in error


def test_everything_resumes(captions, tmp_path):
    options = [*everything(captions), "run.epochs=2", "optimizer.schedule=cosine", "optimizer.num_cycles=2"]
    assert_resumes(tmp_path, captions, *options)


def test_everything_on_two_processes(captions, tmp_path):
    options = [*everything(captions), "run.steps=5"]
    one = start(write_recipe(tmp_path, captions, "one"), *options)
    assert one.wait() == 0, one.stdout.read()
    two = start(write_recipe(tmp_path, captions, "two"), *options, processes=2)
    output = two.communicate()[0]
    assert two.returncode == 0, output
    nets = [last_state(tmp_path / name)["net"] for name in ("one", "two")]
    assert max(float((nets[0][name] - nets[1][name]).abs().max()) for name in nets[0]) < 1e-5


def test_dry_run_shows_all(captions, tmp_path, capsys):
    options = [*everything(captions), "run.epochs=3", "optimizer.schedule=polynomial", "optimizer.power=2"]
    assert train(write_recipe(tmp_path, captions), *options, "--dry-run") == 0
    printed, photos = capsys.readouterr().out, captions / "photos"
    for line in (
        "length: 9 steps, 3 epochs of 3 (run.epochs=3 replaces run.steps)",
        "optimizer: adamw, lr 0.001, weight decay 0.01, betas 0.9 and 0.95, eps 0.001, gradients clipped to 1",
        "schedule: polynomial of power 2 over 9 steps",
        f"folder {captions / 'art'}: 5 samples, weight 1.5: 8 of 13 an epoch (61.5%)",
        f"folder {photos}: 5 samples, for regularization, weight 1: 5 of 13 an epoch (38.5%), loss weight 0.5",
        "lines: each line is a caption, an epoch draws one of them",
        "tags: 3 orders of each caption, an epoch draws one of them, the first 1 stay in front",
        f"trigger word: 'sks' starts every caption in {captions / 'art'} that does not contain it",
        "masks: of 5 of 10 samples, the loss weighs 0.1 where they are black",
        f"note: {photos}: the instance prompt 'a photo' is the caption of 5 images without a caption file",
    ):
        assert line in printed.splitlines(), line


def test_epochs_set_the_steps(data, tmp_path, capsys):
    """Two epochs of two steps; more of them go on, and what they end at is told by them."""
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.epochs=2") == 0
    assert last_state(tmp_path / "run")["step"] == 4
    assert "length: 4 steps, 2 epochs of 2 (run.epochs=2 replaces run.steps)" in capsys.readouterr().out
    assert train(recipe, "run.epochs=2", "--dry-run") == 0
    assert "from step 4: nothing would be trained, run.epochs=2; a larger run.epochs goes on" in capsys.readouterr().out
    assert train(recipe, "run.epochs=3") == 0
    assert last_state(tmp_path / "run")["step"] == 6


def test_missing_library_stops_before_anything_is_read_or_written(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    recipe = write_recipe(tmp_path, data)
    for option in ("--dry-run", "run.steps=2"):
        error = error_of(capsys, train(recipe, "optimizer.name=prodigy", option))
        assert error == "error: optimizer.name=prodigy: prodigyopt is not installed: pip install prodigyopt"
    assert not (tmp_path / "run").exists()


def test_masks_need_images_alone(data, tmp_path, capsys):
    error = error_of(capsys, train(write_recipe(tmp_path, data), "data.masks=true", "objective.repa=vit_tiny"))
    assert "data.masks: not with objective.repa" in error
    error = error_of(capsys, train(write_recipe(tmp_path, data), "data.trigger_word=sks"))
    assert "data.trigger_word: is for captions, but data.path=" in error
