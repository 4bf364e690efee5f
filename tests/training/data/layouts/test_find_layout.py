"""Folders of every layout: what is found in them, and why the rest is not used."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from training.config.data_schema import DataConfig
from training.data.dataset import Dataset
from training.data.inspection import index_path
from training.data.open_dataset import open_dataset

from ...tiny import write_classes, write_picture


def opened(folder: Path, patch_size: int = 4, remember: bool = False, **settings) -> Dataset:
    config = DataConfig(**{"path": str(folder), "resolution": 32, "workers": 0} | settings)
    return open_dataset(config, 1, patch_size, remember)


def captioned(folder: Path, name: str, caption: str | bytes | None = "a cat", ending: str = ".txt") -> None:
    path = write_picture(folder / name, seed=len(name))
    if caption is not None:
        path.with_suffix(ending).write_bytes(caption if isinstance(caption, bytes) else caption.encode())


def test_sidecar_captions(tmp_path):
    captioned(tmp_path, "b.png", " a dog\n", ".caption")
    captioned(tmp_path, "sub/a.jpg", "\ufeffein Bär")
    captioned(tmp_path, "none.png", None)
    captioned(tmp_path, "empty.png", " \n")
    captioned(tmp_path, "latin.png", b"\xe4")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "broken.txt").write_text("a cat")
    write_picture(tmp_path / "dot.png", (1, 1)).with_suffix(".txt").write_text("a dot")
    dataset = opened(tmp_path)
    assert [(s.name, s.captions) for s in dataset.samples] == [("b.png", ("a dog",)), ("sub/a.jpg", ("ein Bär",))]
    reasons = {
        "none.png": "has no caption, expected none.txt or none.caption",
        "empty.png": "its caption file empty.txt is empty",
        "latin.png": "its caption file latin.txt is no UTF-8",
        "broken.png": "is",
        "dot.png": "is too small: 1x1",
    }
    assert {name: reason for name, reason in dataset.dropped if not reason.startswith(reasons[name])} == {}
    assert len(dataset.dropped) == len(reasons)
    table = dataset.table()
    assert all(name in table for name in reasons)


def test_stop_at_problems(tmp_path):
    captioned(tmp_path, "a.png")
    captioned(tmp_path, "b.png", None)
    with pytest.raises(ValueError, match=r"1 usable samples, problems: b\.png has no caption") as error:
        opened(tmp_path, on_problem="stop")
    assert "\n" not in str(error.value)


def test_class_folders(tmp_path):
    write_classes(tmp_path, 2)
    write_picture(tmp_path / "dog" / "more" / "x.png")
    dataset = opened(tmp_path)
    assert dataset.class_names == ["cat", "dog"]
    assert [s.label for s in dataset.samples] == [0, 0, 1, 1, 1]
    assert dataset.num_classes == 2 and not dataset.captioned
    assert torch.equal(dataset.read(0, True), dataset.read(0, False).flip(-1))
    assert [s.label for s in opened(tmp_path, class_names=["dog", "cow", "cat"]).samples] == [2, 2, 0, 0, 0]
    dropped = opened(tmp_path, class_names=["dog"]).dropped
    reason = "has the label 'cat', expected one in data.class_names, or a number from 0"
    assert {found for _, found in dropped} == {reason}


def test_metadata_with_captions(tmp_path):
    write_picture(tmp_path / "a.png")
    write_picture(tmp_path.parent / "outside.png")
    lines = [
        '{"file_name": "a.png", "text": "a cat"}', '{"file_name": "a.png"}', "{broken", '{"text": "b"}',
        '{"file_name": "gone.png", "text": "b"}', '{"file_name": "../outside.png", "text": "b"}', "",
    ]  # fmt: skip
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    dataset = opened(tmp_path)
    assert [(s.name, s.captions) for s in dataset.samples] == [("a.png", ("a cat",))]
    assert [name for name, _ in dataset.dropped] == [f"metadata.jsonl:{line}" for line in (2, 3, 4, 5, 6)]
    assert dataset.dropped[3][1] == "names gone.png, which does not exist"
    assert dataset.dropped[4][1] == "names ../outside.png, which lies outside the folder"


def test_metadata_with_labels(tmp_path):
    write_picture(tmp_path / "a.png")
    rows = [{"file_name": "a.png", "label": label} for label in ("dog", "cat")]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = opened(tmp_path)
    assert dataset.class_names == ["cat", "dog"]
    assert [s.label for s in dataset.samples] == [1, 0]
    rows = [{**row, "label": number} for number, row in enumerate(rows, start=3)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert opened(tmp_path).num_classes == 5


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"text": "a cat"}, {"label": 1}], "some samples have captions, others labels"),
        ([{"label": "cat"}, {"label": 1}], "labels are both names ('cat') and numbers (1)"),
        ([{"label": -1}], "has the label -1, expected"),
        ([{"label": True}], 'has neither a "text" nor a "label"'),
        ([{"text": "a", "file_name": 3}], "names no image file"),
    ],
)  # fmt: skip
def test_metadata_that_cannot_be_used(tmp_path, lines, message):
    write_picture(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps({"file_name": "a.png"} | line) for line in lines))
    with pytest.raises(ValueError) as error:
        opened(tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


def upstream(folder: Path, buckets: list[str], batches: object) -> None:
    lines = []
    for i, bucket in enumerate(buckets):
        write_picture(folder / "images" / f"{i}.png", (40, 24), seed=i)
        lines.append({"image_file": f"images/{i}.png", "captions": [f"cat {i}", "a cat"], "bucket": bucket})
    (folder / "data_info.jsonl").write_text("\n".join(map(json.dumps, lines)))
    if batches is not None:
        (folder / "bucket_sampler.json").write_text(json.dumps(batches))


def test_upstream_text(tmp_path):
    upstream(tmp_path, ["x-24x40", "x-27x41", "x", "x-24x40"], [[0, 1], [2]])
    dataset = opened(tmp_path, patch_size=8)
    assert [(s.name, s.bucket) for s in dataset.samples] == [("images/0.png", (40, 24)), ("images/1.png", (40, 24))]
    assert dataset.samples[0].captions == ("cat 0", "a cat")
    assert dataset.read(0, False).shape == (3, 24, 40)
    assert any("data.square and data.bucket_step do not change them" in note for note in dataset.notes)
    assert dataset.dropped[0][1].startswith("has the bucket 'x', expected one that ends in -HxW")
    assert dataset.dropped[1][1] == "is in no batch of bucket_sampler.json"


def test_upstream_text_with_a_broken_sampler(tmp_path):
    upstream(tmp_path, ["x-24x40"], {"a": "b"})
    with pytest.raises(ValueError, match=r"bucket_sampler\.json: expected a JSON list of batches"):
        opened(tmp_path)


def test_upstream_latents(tmp_path):
    latent = torch.randn(2, 4, 8, 8)
    for name, tensors in {
        "0/a": {"latent": latent, "label": torch.tensor(3)}, "0/b": {"latent": latent[0], "label": torch.tensor(1)},
        "c": {"latent": latent}, "d": {"latent": latent[:, :3], "label": torch.tensor([1])},
        "e": {"latent": latent.clone().fill_(torch.nan), "label": torch.tensor(1)},
        "f": {"latent": latent.half(), "label": torch.tensor([0])},
        "g": {"latent": latent[..., :7], "label": torch.tensor(0)},
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / f"{name}.safetensors")
    (tmp_path / "h.safetensors").write_bytes(b"broken")
    dataset = opened(tmp_path, patch_size=2)
    assert [(s.name, s.label, s.bucket) for s in dataset.samples] == [
        ("0/a.safetensors", 3, (8, 8)), ("f.safetensors", 0, (8, 8)),
    ]  # fmt: skip
    assert dataset.latent and dataset.channels == 4 and dataset.num_classes == 4
    assert torch.equal(dataset.read(0, True), latent[1])
    reasons = [
        "has a latent of shape (4, 8, 8), expected (2, C, H, W)", "holds latent, expected latent and label",
        "has 3 channels, expected 4", "holds NaN or infinite latents", "has 7x8 cells, expected multiples of",
        "is no whole safetensors file",
    ]  # fmt: skip
    assert len(dataset.dropped) == len(reasons)
    assert all(found.startswith(reason) for (_, found), reason in zip(dataset.dropped, reasons, strict=True))


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    for name, values in (("train-images-idx3-ubyte.gz", images), ("train-labels-idx1-ubyte.gz", labels)):
        header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
        (folder / name).write_bytes(gzip.compress(header + values.tobytes()))


def test_idx_files(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    write_idx(tmp_path, images, np.array([0, 1, 2, 9, 1], np.uint8))
    dataset = opened(tmp_path)
    pixels = dataset.read(3, False)
    assert pixels.shape == (3, 32, 32) and pixels[:, :2].eq(-1).all()
    assert torch.equal(((pixels[0, 2:-2, 2:-2] + 1) * 127.5).round().byte(), torch.from_numpy(images[3]))
    assert [s.label for s in dataset.samples] == [0, 1, 2, 9, 1]
    with pytest.raises(ValueError, match=r"within data\.resolution=16"):
        opened(tmp_path, resolution=16)


BROKEN = {"empty": b"", "cut": b"\x1f\x8b", "short": gzip.compress(b"\0\0\x08\x01\0\0\0\x09ab")}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken_idx_files(tmp_path, content):
    write_idx(tmp_path, np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.uint8))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte\.gz: is no whole idx file") as error:
        opened(tmp_path)
    assert "\n" not in str(error.value)


def test_folders_without_data(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: no such folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no images .* and no latents"):
        opened(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"0 usable samples, problems: a\.png has no caption"):
        opened(tmp_path)
    with pytest.raises(ValueError, match=r"is a file, expected a folder"):
        opened(tmp_path / "a.png")


def test_checks_are_remembered(tmp_path):
    data, cache = write_classes(tmp_path / "data", 2), str(tmp_path / "cache")
    index = index_path(cache, str(data))
    first = opened(data, remember=True, cache=cache)
    known = json.loads(index.read_text())
    assert len(known) == 4
    known["cat/0.png"]["problem"] = "is known to be bad"
    index.write_text(json.dumps(known))
    assert opened(data, remember=True, cache=cache).dropped == [("cat/0.png", "is known to be bad")]
    write_picture(data / "cat" / "0.png", (24, 24))  # changed, so it is read again
    again = opened(data, remember=True, cache=cache)
    assert not again.dropped and again.samples[0].digest != first.samples[0].digest
    assert again.digest() != first.digest()
    index.write_text("[broken")
    assert len(opened(data, remember=True, cache=cache).samples) == 4
