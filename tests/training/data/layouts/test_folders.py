"""What a folder's tree is read as: splits, stray files, links, and what cannot be looked into."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import tensor, zeros

from training.config.data_schema import DataConfig
from training.data.dataset import Dataset
from training.data.layouts.folders import read_tree
from training.data.open_dataset import open_dataset

from ...tiny import write_classes, write_picture


def opened(folder: Path, **settings) -> Dataset:
    return open_dataset(DataConfig(**{"path": str(folder), "resolution": 32, "workers": 0} | settings), 1, 4)


def linked(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.symlink(target, path, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")


@pytest.mark.parametrize("other", ["val", "validation", "TEST", "val2017"])
@pytest.mark.parametrize("train", ["train", "Training", "train2017"])
def test_training_split_with_classes(tmp_path, train, other):
    write_classes(tmp_path / train, 2)
    write_classes(tmp_path / other, 1)
    dataset = opened(tmp_path)
    assert dataset.class_names == ["cat", "dog"]
    assert [s.name for s in dataset.samples] == [f"{train}/{n}.png" for n in ("cat/0", "cat/1", "dog/0", "dog/1")]
    assert dataset.notes == [f"only {train}/ is read; left alone: {other}/"]
    assert dataset.read(3, False).shape[0] == 3
    assert f"note: only {train}/ is read; left alone: {other}/" in dataset.table()


def test_training_split_alone(tmp_path):
    write_classes(tmp_path / "train", 1)
    write_picture(tmp_path / "preview.png")
    dataset = opened(tmp_path)
    assert dataset.class_names == ["cat", "dog"] and not dataset.dropped
    assert dataset.notes == ["only train/ is read; left alone: 1 image"]


def test_training_split_in_a_folder(tmp_path):
    write_classes(tmp_path / "imagenet" / "data" / "train", 1)
    write_classes(tmp_path / "imagenet" / "data" / "val", 1)
    dataset = opened(tmp_path)
    assert [s.name for s in dataset.samples] == [f"imagenet/data/train/{name}/0.png" for name in ("cat", "dog")]
    assert dataset.notes == ["only imagenet/data/train/ is read; left alone: imagenet/data/val/"]


def test_training_split_with_captions(tmp_path):
    for name in ("train/a", "val/b"):
        write_picture(tmp_path / f"{name}.png").with_suffix(".txt").write_text(f"a {name}")
    dataset = opened(tmp_path)
    assert [(s.name, s.captions) for s in dataset.samples] == [("train/a.png", ("a train/a",))]
    assert dataset.notes == ["only train/ is read; left alone: val/"]


def test_training_split_of_latents(tmp_path):
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
        save_file({"latent": zeros(2, 4, 8, 8), "label": tensor(3)}, tmp_path / name / "a.safetensors")
    assert [(s.name, s.label) for s in opened(tmp_path).samples] == [("train/a.safetensors", 3)]


def test_split_without_captions_is_no_class(tmp_path):
    for name in ("train/a", "val/b"):
        write_picture(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match=r"0 usable samples, problems: train/a\.png has no caption"):
        opened(tmp_path)


def test_class_named_train_among_others(tmp_path):
    for name in ("car", "plane", "train"):
        write_picture(tmp_path / name / "0.png")
    dataset = opened(tmp_path)
    assert dataset.class_names == ["car", "plane", "train"] and not dataset.notes


def test_stray_picture_is_dropped_from_classes(tmp_path):
    write_classes(tmp_path, 1)
    write_picture(tmp_path / "preview.png")
    dataset = opened(tmp_path)
    assert [(s.name, s.label) for s in dataset.samples] == [("cat/0.png", 0), ("dog/0.png", 1)]
    assert dataset.dropped == [("preview.png", "lies in no class folder")]
    with pytest.raises(ValueError, match=r"2 usable samples, problems: preview\.png lies in no class folder"):
        opened(tmp_path, on_problem="stop")


def test_stray_picture_is_dropped_from_latents(tmp_path):
    for i in range(2):
        save_file({"latent": zeros(2, 4, 8, 8), "label": tensor(i)}, tmp_path / f"{i}.safetensors")
    write_picture(tmp_path / "preview.png")
    dataset = opened(tmp_path)
    assert [s.label for s in dataset.samples] == [0, 1]
    assert dataset.dropped == [("preview.png", "is an image among ready-made latents")]


def test_cache_of_latents_beside_pictures(tmp_path):
    """As where data.cache lies in data.path, or another program keeps its latents there."""
    write_classes(tmp_path, 1)
    for i in range(5):
        save_file({"value": zeros(2)}, tmp_path / f"{i}.safetensors")
    dataset = opened(tmp_path)
    assert dataset.class_names == ["cat", "dog"]
    assert dataset.notes == ["not used beside images: 0.safetensors, 1.safetensors, 2.safetensors and 2 more"]


def test_stray_latent_beside_pictures_is_told(tmp_path):
    write_classes(tmp_path, 1)
    save_file({"lora": zeros(2)}, tmp_path / "style.safetensors")
    assert opened(tmp_path).notes == ["not used beside images: style.safetensors"]


@pytest.mark.parametrize("name", ["README.txt", "classes.txt", "cat/notes.txt", "metadata.txt", "cat/data.json"])
def test_stray_text_changes_nothing(tmp_path, name):
    write_classes(tmp_path, 2)
    (tmp_path / name).write_text("cat dog")
    dataset = opened(tmp_path)
    assert [s.label for s in dataset.samples] == [0, 0, 1, 1] and not dataset.dropped and not dataset.notes


def test_pictures_in_the_root_outweigh_a_folder(tmp_path):
    """Five pictures without captions and one in a folder are no class: what lacks is said, not guessed."""
    for i in range(5):
        write_picture(tmp_path / f"{i}.png", seed=i)
    write_picture(tmp_path / "old" / "0.png")
    with pytest.raises(ValueError, match=r"0 usable samples, problems: 0\.png has no caption, expected 0\.txt"):
        opened(tmp_path)


def test_links_to_class_folders_are_followed(tmp_path):
    write_classes(tmp_path / "disk", 2)
    for name in ("cat", "dog"):
        linked(tmp_path / "data" / name, tmp_path / "disk" / name)
    dataset = opened(tmp_path / "data")
    assert [(s.name, s.label) for s in dataset.samples] == [
        ("cat/0.png", 0), ("cat/1.png", 0), ("dog/0.png", 1), ("dog/1.png", 1),
    ]  # fmt: skip
    assert dataset.read(2, False).shape == (3, 16, 16)


def test_links_in_circles(tmp_path):
    """Each folder is read once, at its own place, whatever links come before it by name."""
    write_classes(tmp_path, 1)
    linked(tmp_path / "a", tmp_path / "dog")
    linked(tmp_path / "cat" / "up", tmp_path)
    linked(tmp_path / "cat" / "other", tmp_path / "dog")
    linked(tmp_path / "dog" / "other", tmp_path / "cat")
    tree = read_tree(tmp_path)
    assert [tree.name(path) for path in tree.files] == ["cat/0.png", "dog/0.png"]
    assert [note.split(":")[0] for note in tree.notes] == ["a", "cat/other", "cat/up", "dog/other"]
    assert "a: links to a folder that is read already" in opened(tmp_path).table()


def test_folder_that_the_system_does_not_read(tmp_path, monkeypatch):
    write_classes(tmp_path, 1)
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert opened(tmp_path).dropped == [("dog", "cannot be read (Permission denied)")]
    with pytest.raises(ValueError, match=r"holds no images .*; .*dog cannot be read \(Permission denied\)"):
        opened(tmp_path / "dog")


def test_hidden_files_are_no_pictures(tmp_path):
    write_classes(tmp_path, 1)
    write_picture(tmp_path / "cat" / "._0.png")
    write_picture(tmp_path / ".cache" / "0.png")
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"\0")
    assert [s.name for s in opened(tmp_path).samples] == ["cat/0.png", "dog/0.png"]


def test_archives_are_named(tmp_path):
    for i in range(2):
        (tmp_path / f"{i:05}.tar").write_bytes(bytes(1024))
    with pytest.raises(ValueError, match=r"holds no images .*; found 2 \.tar files"):
        opened(tmp_path)


def test_only_class_with_folders_in_it_is_pointed_out(tmp_path):
    write_classes(tmp_path / "imagenet", 1)
    note = f"if the folders in it are the classes, set data.path={tmp_path / 'imagenet'}"
    assert opened(tmp_path).notes == [f"all images are of one class, imagenet; {note}"]
