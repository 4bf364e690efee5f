"""Captions beside pictures, class folders, or folders N_name: one clear reading of each folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from training.config.data_schema import DataConfig
from training.config.schema import Config
from training.data.batches import Batches
from training.data.dataset import Dataset
from training.data.encoded import Latents
from training.data.open_dataset import open_dataset

from ...tiny import write_classes, write_picture


def opened(folder: Path, **settings) -> Dataset:
    return open_dataset(DataConfig(**{"path": str(folder), "resolution": 32, "workers": 0} | settings), 1, 4)


def captioned(folder: Path, name: str, caption: str | None = "a cat", seed: int = 0) -> Path:
    path = write_picture(folder / f"{name}.png", seed=seed)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path


def test_one_caption_among_forty_pictures(tmp_path):
    write_classes(tmp_path, 20)
    (tmp_path / "cat" / "3.txt").write_text("a cat")
    dataset = opened(tmp_path)
    assert Counter(s.label for s in dataset.samples) == {0: 20, 1: 20} and not dataset.dropped
    assert dataset.reading == "a class for each of 2 folders (cat, dog): 1 of 40 images with a caption file"
    assert dataset.notes == ["caption files that are not used: cat/3.txt"]


def test_half_with_captions_are_captions(tmp_path):
    write_classes(tmp_path, 2)
    for name in ("cat/0", "dog/1"):
        (tmp_path / f"{name}.txt").write_text(name)
    dataset = opened(tmp_path)
    assert [(s.name, s.captions) for s in dataset.samples] == [("cat/0.png", ("cat/0",)), ("dog/1.png", ("dog/1",))]
    assert [name for name, _ in dataset.dropped] == ["cat/1.png", "dog/0.png"]
    assert dataset.reading == "a text file beside each image: 2 of 4 images with a caption file"
    assert opened(tmp_path, class_names=["cat", "dog"]).num_classes == 2  # folders that are named are classes


def test_captions_in_the_root_and_in_folders(tmp_path):
    for i, name in enumerate(("a", "b", "sub/c")):
        captioned(tmp_path, name, name, seed=i)
    assert [s.captions for s in opened(tmp_path).samples] == [("a",), ("b",), ("sub/c",)]


def test_more_dropped_than_used_is_said(tmp_path):
    captioned(tmp_path, "a")
    for name in "bc":
        captioned(tmp_path, name, None)
    assert opened(tmp_path).notes[-1].startswith("more is dropped than used: b.png has no caption, expected b.txt")


def test_repeats_of_folders(tmp_path):
    for i in range(2):
        captioned(tmp_path, f"10_cat woman/{i}", "cat woman, smile", seed=i)
    captioned(tmp_path, "3_reg/0", "woman", seed=9)
    dataset = opened(tmp_path)
    assert [(s.captions[0], s.repeats) for s in dataset.samples] == [
        ("cat woman, smile", 10), ("cat woman, smile", 10), ("woman", 3),
    ]  # fmt: skip
    assert dataset.reading == "folders named N_name, each image N times an epoch: 10_cat woman, 3_reg"
    assert dataset.table().startswith("data: 3 samples with captions, 23 an epoch, layout: repeated folders\n")
    data = Batches(Config(data=DataConfig(batch_size=4)), dataset, Latents(dataset, "", None), None, None)
    rows = [data.rows(step)[1] for step in range(data.batches_per_epoch)]
    assert Counter(i for batch in rows for i, *_ in batch) == {0: 10, 1: 10, 2: 3}


def test_repeats_change_the_digest(tmp_path):
    captioned(tmp_path / "a", "2_x/0")
    captioned(tmp_path / "b", "3_x/0")
    captioned(tmp_path / "c", "plain/0")
    assert len({opened(tmp_path / name).digest() for name in "abc"}) == 3


@pytest.mark.parametrize("parent", ["", "img/"])
def test_folder_name_is_the_caption_of_pictures_without(tmp_path, parent):
    captioned(tmp_path, f"{parent}10_cat/0", "a cat")
    captioned(tmp_path, f"{parent}5_ohwx dog/0", None, seed=1)
    dataset = opened(tmp_path)
    assert [(s.captions, s.repeats) for s in dataset.samples] == [(("a cat",), 10), (("ohwx dog",), 5)]
    many = f"1 image without a caption file: {parent}5_ohwx dog/0.png"
    assert dataset.notes == [f"the folder's name is the caption of {many}"]


def test_folders_with_numbers_as_classes(tmp_path):
    for i, name in enumerate(("1_cat", "2_dog")):
        captioned(tmp_path, f"{name}/0", None, seed=i)
    dataset = opened(tmp_path)
    assert [s.captions for s in dataset.samples] == [("cat",), ("dog",)]
    assert dataset.reading.endswith("the name as its caption; folders that data.class_names lists are classes")
    dataset = opened(tmp_path, class_names=["2_dog", "1_cat"])
    assert [s.label for s in dataset.samples] == [1, 0] and not dataset.captioned


@pytest.mark.parametrize("names", [("001_cat", "002_dog"), ("0_cat", "1_dog"), ("2023_x", "2024_y"), ("1_a", "b")])
def test_numbers_that_are_no_repeats(tmp_path, names):
    """Leading zeros, years, and folders of which some have no number."""
    for i, name in enumerate(names):
        captioned(tmp_path, f"{name}/0", None, seed=i)
    dataset = opened(tmp_path)
    assert dataset.class_names == list(names) and {s.repeats for s in dataset.samples} == {1}
