"""Checks of files that are remembered: for one folder each, and only as long as the file is the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from training.components.parts import build_parts
from training.config.data_schema import DataConfig
from training.config.load import load_config
from training.data.inspection import MAX_LATENT, index_path, inspect_latent, shape_problem
from training.data.open_dataset import open_dataset

from ..tiny import write_recipe

TIME = 1_700_000_000


def write_pictures(folder: Path, color: str) -> Path:
    """Bitmaps, which have one length whatever is in them, of one time."""
    for name in ("0.bmp", "1.bmp"):
        path = folder / "thing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), color).save(path)
        os.utime(path, (TIME, TIME))
    return folder


def write_latents(folder: Path, label: int) -> Path:
    folder.mkdir(parents=True)
    save_file(
        {"latent": torch.full((2, 4, 8, 8), float(label)), "label": torch.tensor(label)}, folder / "0.safetensors"
    )
    os.utime(folder / "0.safetensors", (TIME, TIME))
    return folder


@pytest.mark.parametrize(("write", "contents"), [(write_pictures, ("red", "blue")), (write_latents, (3, 7))])
def test_folders_whose_files_agree_in_name_size_and_time(tmp_path, write, contents):
    """Each is trained on its own content and labels, through one cache."""
    samples = {}
    for again in (False, True):
        for content in contents:
            folder = tmp_path / str(content) if again else write(tmp_path / str(content), content)
            sample = build_parts(load_config(write_recipe(tmp_path, folder))).dataset.samples[0]
            assert samples.setdefault(content, sample) == sample
            assert sample.label == (content if write is write_latents else 0)
    first, second = samples.values()
    assert first.name == second.name and first.digest != second.digest


@pytest.mark.parametrize("moved", [True, False])
def test_content_that_changes_under_one_name_size_and_time(tmp_path, moved):
    folder = write_pictures(tmp_path / "data", "red")
    before = opened(folder)
    if moved:
        folder.rename(tmp_path / "red")
        write_pictures(tmp_path / "new", "blue").rename(folder)
    else:
        write_pictures(folder, "blue")
    after = opened(folder)
    assert [s.name for s in before] == [s.name for s in after]
    assert all(a.digest != b.digest for a, b in zip(before, after, strict=True))


def opened(folder: Path) -> list:
    config = DataConfig(path=str(folder), cache=str(folder.parent / "cache"), resolution=16, workers=0)
    return open_dataset(config, 1, 1, remember=True).samples


def index_of(folder: Path) -> Path:
    return index_path(str(folder.parent / "cache"), str(folder))


def test_one_index_for_each_folder_however_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert index_path("cache", "a") == index_path("cache", str(tmp_path / "b" / ".." / "a")) != index_path("cache", "b")


INDICES = {
    "older": lambda entry: {**entry, "version": entry["version"][:2]},
    "short": lambda entry: {"version": entry["version"], "digest": "old"},
    "longer": lambda entry: {**entry, "more": 1},
    "text": lambda entry: "text",
    "size": lambda entry: {**entry, "width": "64"},
    "reason": lambda entry: {**entry, "problem": None},
    "label": lambda entry: {**entry, "label": 1.5},
}  # fmt: skip


@pytest.mark.parametrize("change", INDICES.values(), ids=INDICES)
def test_indices_that_are_not_believed(tmp_path, change):
    folder = write_pictures(tmp_path / "data", "red")
    before, index = opened(folder), index_of(folder)
    known = json.loads(index.read_text())
    index.write_text(json.dumps({name: change({**entry, "digest": "old"}) for name, entry in known.items()}))
    assert opened(folder) == before
    assert json.loads(index.read_text()) == known


def test_index_that_is_nested_too_deeply(tmp_path):
    folder = write_pictures(tmp_path / "data", "red")
    index = index_of(folder)
    index.parent.mkdir(parents=True)
    index.write_text(100_000 * "[")
    assert len(opened(folder)) == 2


def test_latents_are_bounded_before_they_are_read(tmp_path):
    assert shape_problem((2, 32, 1024, 1024), ()) == shape_problem((2, 4, 8, 8), (1,)) == ""
    assert shape_problem((2, 1, 8192, 8193), ()).endswith(f"expected at most {MAX_LATENT} values")
    save_file({"latent": torch.zeros(2, 4, 8, 8), "label": torch.zeros(10**6, dtype=torch.int64)}, tmp_path / "a.sft")
    assert (
        inspect_latent(tmp_path / "a.sft").problem == "has labels of shape (1000000,), expected one whole number from 0"
    )
