"""Training data of every bad kind: each file that cannot be used is dropped with its reason, the rest is trained on."""

from __future__ import annotations

import gzip
import json
import os
import struct
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.tim_model.gemma import write_gemma
from training.config.data_schema import DataConfig
from training.data.dataset import Dataset
from training.data.idx import read_idx
from training.data.open_dataset import open_dataset

from ..tiny import train, write_classes, write_picture, write_recipe


def opened(folder: Path) -> Dataset:
    return open_dataset(DataConfig(path=str(folder), resolution=32, workers=0), 1, 4)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_bomb(path: Path, side: int) -> None:
    """A PNG of a hundred bytes that claims to have side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks))


def write_odd_pictures(folder: Path) -> None:
    """Pictures that are rare, yet whole: they are trained on."""
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(folder / "cmyk.jpg")
    Image.new("I;16", (16, 16), 40000).save(folder / "deep.png")
    palette = Image.new("P", (16, 16), 3)
    palette.putpalette(list(range(256)) * 3)
    palette.save(folder / "palette.png", transparency=bytes([100]) * 256)
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue")]
    for name in ("frames.gif", "frames.webp", "frames.png"):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:])
    frames[0].save(folder / "žluťoučký kůň 😀.png")


def test_folder_of_odd_files(tmp_path):
    folder = write_classes(tmp_path / "data", 3)
    write_odd_pictures(folder / "cat")
    write_bomb(folder / "cat" / "bomb.png", 100_000)
    write_bomb(folder / "cat" / "big.png", 14_000)
    (folder / "cat" / "zero.png").write_bytes(b"")
    whole = write_picture(folder / "cat" / "cut.jpg", (64, 64))
    whole.write_bytes(whole.read_bytes()[:-400])
    write_picture(folder / "cat" / "dot.png", (1, 1))
    (folder / "cat" / "folder.png").mkdir()
    assert train(write_recipe(tmp_path, folder), "run.steps=2") == 0
    table = (tmp_path / "run" / "data.txt").read_text(encoding="utf-8").splitlines()
    assert table[0].startswith("data: 13 samples")  # 6 and 7 odd ones
    dropped = dict(line.strip().split(": ", 1) for line in table[table.index("dropped: 5") + 1 :])
    assert dropped.keys() == {f"cat/{name}" for name in ("bomb.png", "big.png", "zero.png", "cut.jpg", "dot.png")}
    assert dropped["cat/bomb.png"] == dropped["cat/big.png"] == "is huge: expected at most 179 megapixels"
    assert dropped["cat/cut.jpg"].startswith("is broken")


def test_pictures_of_common_endings_are_found(tmp_path):
    kinds = {"a.jfif": "JPEG", "b.JPE": "JPEG", "c.apng": "PNG", "d.tga": "TGA", "e.jp2": "JPEG2000", "f.avif": "AVIF"}
    kinds = {name: kind for name, kind in kinds.items() if kind in Image.SAVE}  # older Pillow has no AVIF
    for name, kind in kinds.items():
        Image.new("RGB", (16, 16), "red").save(tmp_path / name, kind)
        (tmp_path / name).with_suffix(".txt").write_text("a red square")
    dataset = opened(tmp_path)
    assert [sample.name for sample in dataset.samples] == sorted(kinds) and not dataset.dropped


@pytest.mark.parametrize("captions", [True, False])
def test_images_of_kinds_that_are_not_read_are_listed(tmp_path, captions):
    folder = write_classes(tmp_path / "data", 1)
    for name in ("a.heic", "b.jxl", "c.MP4"):
        (folder / "cat" / name).write_bytes(b"anything")
    if captions:
        for path in folder.rglob("*.png"):
            path.with_suffix(".txt").write_text("a picture")
    dataset = opened(folder)
    assert len(dataset.samples) == 2
    assert dataset.dropped == [
        ("cat/a.heic", "is HEIC, which is not read: convert it to PNG or JPEG"),
        ("cat/b.jxl", "is JPEG XL, which is not read: convert it to PNG or JPEG"),
        ("cat/c.MP4", "is a video, which is not read: extract its frames as PNG or JPEG"),
    ]


def test_folder_of_kinds_that_are_not_read(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"holds no images .*; convert its \.heic files to PNG or JPEG"):
        opened(tmp_path)


def test_links_to_nothing(tmp_path):
    """A link to itself, one to a file that is gone, and a folder in itself."""
    folder = write_classes(tmp_path / "data", 2)
    try:
        os.symlink(folder / "cat" / "loop.png", folder / "cat" / "loop.png")
        os.symlink(folder / "gone.png", folder / "cat" / "link.png")
        os.symlink(folder, folder / "cat" / "self", target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    dataset = opened(folder)
    assert len(dataset.samples) == 4
    assert [name for name, _ in dataset.dropped] == ["cat/link.png", "cat/loop.png"]
    assert all(reason.startswith("cannot be read (") for _, reason in dataset.dropped)


def test_file_that_the_system_does_not_read(tmp_path, monkeypatch):
    folder = write_classes(tmp_path, 2)

    def refuse(path: Path) -> str:
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied", str(path))
        return path.name

    monkeypatch.setattr("training.data.inspection.hash_file", refuse)
    dropped = [(f"{kind}/1.png", "cannot be read (Permission denied)") for kind in ("cat", "dog")]
    assert opened(folder).dropped == dropped


def test_names_that_are_no_unicode(tmp_path):
    """Linux lets files have such names; a table of them can still be printed and written."""
    samples = opened(write_classes(tmp_path, 1)).samples
    table = Dataset("classes", samples, [("\udcff.png", "is empty")], []).table()
    assert table.encode().endswith(b"  \\udcff.png: is empty")


LINES = [
    '{"file_name": "a.png", "label": "x"}',
    "",
    '{"file_name": "a.png", "label": "first\u2028second"}',
    '{"file_name": "a.png", "label": "x"}',  # named twice: two samples
    json.dumps({"file_name": "a\0.png", "label": "x"}),
    json.dumps({"file_name": 300 * "n" + ".png", "label": "x"}),
    '{"file_name": "a.png"}',
]


def test_metadata_as_editors_leave_it(tmp_path):
    """A byte order mark, CRLF, blank lines, a line separator inside a text, and names that no system accepts."""
    write_picture(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_bytes(("\ufeff" + "\r\n".join(LINES) + "\r\n").encode())
    dataset = opened(tmp_path)
    assert dataset.class_names == ["first\u2028second", "x"]
    assert [sample.label for sample in dataset.samples] == [1, 0, 1]
    assert [name for name, _ in dataset.dropped] == [f"metadata.jsonl:{line}" for line in (5, 6, 7)]
    assert [reason.endswith("which does not exist") for _, reason in dataset.dropped] == [True, True, False]


@pytest.mark.parametrize("batches", ["[[1e400]]", "[[NaN]]", "[null]", 5000 * "[", "[[" + 5000 * "9" + "]]"])
def test_samplers_with_odd_numbers(tmp_path, batches):
    write_picture(tmp_path / "a.png")
    line = {"image_file": "a.png", "captions": ["a cat"], "bucket": "x-16x16"}
    (tmp_path / "data_info.jsonl").write_text(json.dumps(line))
    (tmp_path / "bucket_sampler.json").write_text(batches)
    with pytest.raises(ValueError, match=r"bucket_sampler\.json: expected a JSON list of batches"):
        opened(tmp_path)


def test_metadata_that_names_a_link_to_itself(tmp_path):
    try:
        os.symlink(tmp_path / "loop.png", tmp_path / "loop.png")
    except OSError:
        pytest.skip("this system makes no links")
    write_picture(tmp_path / "a.png")
    lines = [{"file_name": name, "text": "a"} for name in ("loop.png", "a.png")]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert opened(tmp_path).dropped == [("metadata.jsonl:1", "names loop.png, which does not exist")]


@pytest.mark.parametrize("label", [2**20, 10**12, 10**30])
def test_labels_that_no_memory_holds(tmp_path, label):
    write_picture(tmp_path / "a.png")
    lines = [{"file_name": "a.png", "label": number} for number in (3, label)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    dataset = opened(tmp_path)
    assert dataset.num_classes == 4
    reason = f"has the label {label}, expected one in data.class_names, or a number from 0 to 1048575"
    assert dataset.dropped == [("a.png", reason)]


def test_latent_with_a_label_that_no_memory_holds(tmp_path):
    save_file({"latent": torch.zeros(2, 4, 8, 8), "label": torch.tensor(2**40)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=rf"a\.safetensors has the label {2**40}, expected one whole number from 0"):
        opened(tmp_path)


def test_captions_with_anything_in_them(tmp_path):
    """A NUL, ten thousand words, a token of pictures, control codes and half a surrogate pair are text like any."""
    captions = ["a\0b", "word " * 10_000, "<image_soft_token>", "ünï 😀", "\x1b[31m\n\n", "\ud800"]
    lines = [{"file_name": f"{i}.png", "text": caption} for i, caption in enumerate(captions)]
    for i in range(len(captions)):
        write_picture(tmp_path / "data" / f"{i}.png", seed=i)
    (tmp_path / "data" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    encoder = write_gemma(tmp_path / "gemma")
    assert train(write_recipe(tmp_path, tmp_path / "data"), "run.steps=1", f"model.text_encoder={encoder}") == 0


def test_caption_file_that_the_system_does_not_read(tmp_path, monkeypatch):
    for name in "ab":
        write_picture(tmp_path / f"{name}.png").with_suffix(".txt").write_text("a cat")
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "b.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert opened(tmp_path).dropped == [("b.png", "its caption file b.txt cannot be read (Permission denied)")]


def test_idx_file_with_flipped_bits(tmp_path):
    """Each byte of the packed file in turn: whatever the decoder says is one line with the file's name."""
    path = tmp_path / "labels-idx1-ubyte.gz"
    whole = gzip.compress(bytes([0, 0, 8, 1]) + struct.pack(">I", 40) + bytes(i * i % 251 for i in range(40)), mtime=0)
    kinds = set()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :])
        try:
            read_idx(path, 1)
        except ValueError as error:
            kinds.add(str(error)[len(str(path)) :].split("(")[0])
    assert kinds == {": is no whole idx file of 1 dimensions "}
