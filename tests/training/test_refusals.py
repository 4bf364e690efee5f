"""What a run cannot start with: one line, exit status 1, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from training.config.load import load_config
from training.data.tensor_cache import TensorCache

from .refusal import error_of, names
from .tiny import train, write_classes, write_picture, write_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"), 3)


def test_foreign_checkpoint(data, tmp_path, capsys):
    path = tmp_path / "foreign.safetensors"
    save_file({f"model.diffusion_model.input_blocks.{i}.weight": torch.zeros(2) for i in range(4)}, path)
    error = error_of(capsys, train(write_recipe(tmp_path, data), f"model.checkpoint={path}"))
    assert "foreign.safetensors: is not a TiM checkpoint: found 4 tensors (input_blocks.0.weight, " in error


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
        ("sampling.steps=[]", "sampling.steps=[]: expected whole numbers from 1"),
        ("sampling.cfg=nan", "sampling.cfg=nan: expected a finite number"),
        ("optimizer.lr=.inf", "optimizer.lr=inf: expected a finite number"),
        ("run.seed=99999999999999999999", "run.seed=99999999999999999999: expected a number of at most 63 bits"),
        ("data.class_names=[cat, cat]", "data.class_names=['cat', 'cat']: expected each name once"),
        ("data.resolution=2", "data.resolution=2: expected at least 4, the pixels of one token"),
        ("run.precision=fp16", "run.precision=fp16"),
        ("run.folder=", "run.folder: is not set"),
        ("data.cache=", "data.cache: is not set"),
        ("model.vae=nowhere", "nowhere: no such file"),
        ("data.path=nowhere", "data.path=nowhere: no such folder"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(data, tmp_path, capsys, override, message):
    recipe = write_recipe(tmp_path, data)
    assert message in error_of(capsys, train(recipe, "data.max_aspect=1", "sampling.every=2", override))
    assert not (tmp_path / "run").exists()


def test_home_folder_in_a_recipe(data, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert Path(load_config(write_recipe(tmp_path, data), ["run.folder=~/a"]).run.folder) == tmp_path / "a"


def test_image_encoder_that_cannot_be_downloaded(data, tmp_path, capsys, monkeypatch):
    pytest.importorskip("timm")

    def offline(*_):
        raise OSError("no network\nin two lines")

    monkeypatch.setattr("training.objectives.repa.build_encoder", offline)
    error = error_of(capsys, train(write_recipe(tmp_path, data), "objective.repa=vit_tiny_patch16_224"))
    assert "image encoder 'vit_tiny_patch16_224': its weights cannot be loaded (no network)" in error


def test_processes_that_nothing_joins(data, tmp_path, capsys, monkeypatch):
    """torchrun without GPUs: each process would think that it is alone, and write the run."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    error = error_of(capsys, train(write_recipe(tmp_path, data), "run.cpu=false"))
    assert "2 processes were started, but no GPUs found to join them: set run.cpu=true" in error
    assert not (tmp_path / "run").exists()


def test_run_folder_that_is_a_file(data, tmp_path, capsys):
    (tmp_path / "run").write_text("occupied")
    assert "run" in error_of(capsys, train(write_recipe(tmp_path, data)))
    assert (tmp_path / "run").read_text() == "occupied"


def test_run_folder_inside_the_data(tmp_path, capsys):
    """Its sample sheets would be a class after the first resume."""
    folder = write_classes(tmp_path / "data", 2)
    error = error_of(capsys, train(write_recipe(tmp_path, folder), f"run.folder={folder / 'run'}"))
    assert "lies in data.path=" in error
    assert names(folder) == ["cat", "dog"]


@pytest.mark.parametrize("content", [b"epoch,loss\n1,2\n", b"\xff\xfe\0\0"], ids=["other", "binary"])
def test_log_of_something_else(data, tmp_path, capsys, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.csv").write_bytes(content)
    assert "log.csv: is no log of a training run" in error_of(capsys, train(write_recipe(tmp_path, data)))
    assert (tmp_path / "run" / "log.csv").read_bytes() == content


def test_paths_with_spaces_and_unicode(tmp_path):
    folder = tmp_path / "ünï 😀 [a]"
    recipe = write_recipe(folder, write_classes(folder / "da ta 'x' [b]", 2))
    assert train(recipe, "run.steps=2", "sampling.every=2") == 0
    assert train(recipe, "run.steps=3", "sampling.every=2") == 0
    assert names(folder / "run" / "samples") == ["step-00000002.png", "step-00000003.png"]


def test_damaged_cache_names_the_file(tmp_path):
    cache = TensorCache(tmp_path)
    cache.put("abc", torch.zeros(3))
    cache.path("abc").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"abc\.safetensors: cannot be read .*delete it and start again"):
        cache.get("abc")
