"""Training data that would take all memory if it were believed: refused with a reason, before it is read."""

from __future__ import annotations

import gzip
import json
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from training.config.data_schema import DataConfig
from training.data.idx import read_idx
from training.data.images.read_image import MAX_BYTES, read_image
from training.data.layouts.plain_text import MAX_CAPTION, MAX_TABLE
from training.data.open_dataset import open_dataset

from ...tiny import write_picture

MIB = 2**20


@pytest.fixture
def bounded() -> Iterator[None]:
    """At most 200 MiB more memory than before, at any moment (where the system counts it)."""
    resource = pytest.importorskip("resource")
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 200 * MIB


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks: tuple[bytes, bytes], size: tuple[int, int] = (16, 16)) -> bytes:
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((size[0] + 1) * size[1])) if max(size) < 100 else zlib.compress(bytes(100))
    chunks = [(b"IHDR", header), *chunks, (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


ZEROS = zlib.compress(bytes(300 * MIB), 9)  # 300 KB
BOMBS = {
    "text": (png((b"zTXt", b"Comment\0\0" + ZEROS)), "is broken (Decompressed data too large"),
    "international": (png((b"iTXt", b"Comment\0\1\0\0\0" + ZEROS)), "is broken (Decompressed data too large"),
    "profile": (png((b"iCCP", b"made\0\0" + ZEROS)), "is broken (Decompressed data too large"),
    "size": (png(size=(2**31 - 1, 2**31 - 1)), "is huge"),
    "long": (png(size=(2**31 - 1, 1)), "is huge"),
    "not whole": (png(size=(9000, 9000)), "is broken"),
    "icon": (
        struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, 6000, 22) + png(size=(60000, 60000)).ljust(6000),
        "is huge",
    ),
    "gif": (b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"\x2c" + bytes(20), "is huge"),
    "bmp": (
        b"BM" + struct.pack("<IHHIIiiHH", 154, 0, 0, 54, 40, 2**30, 2**30, 1, 24) + bytes(130),
        "is huge",
    ),
    "ppm": (b"P6 99999 99999 255\n" + bytes(100), "is huge"),
    "webp": (b"RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0\x2f" + struct.pack("<I", 16383 | 16383 << 14) + bytes(9), "is"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_pictures_that_claim_too_much(tmp_path, bounded, name):
    content, reason = BOMBS[name]
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_image(tmp_path / "a.png")
    assert str(error.value).startswith(reason) and "\n" not in str(error.value)


def test_file_of_a_terabyte(tmp_path, bounded):
    """Without blocks on the disk; some readers would load it whole."""
    (tmp_path / "a.webp").write_bytes(b"RIFF\xff\xff\xff\xffWEBPVP8L")
    with open(tmp_path / "a.webp", "r+b") as file:
        try:
            file.truncate(2**40)
        except OSError:
            pytest.skip("this system has no files with holes")
    with pytest.raises(ValueError, match=f"^is huge: 1099.5 GB, expected at most {MAX_BYTES / 1e9:.1f}"):
        read_image(tmp_path / "a.webp")


def test_picture_of_many_frames(tmp_path, bounded):
    """Of two thousand, the first is read."""
    frames = [Image.new("P", (16, 16), color) for color in range(200)]
    frames[0].putpalette(bytes(range(256)) * 3)
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:] * 10)
    assert read_image(tmp_path / "a.gif").getpixel((0, 0)) == (0, 1, 2)


def test_exif_with_a_tag_of_gigabytes(tmp_path, bounded):
    image = Image.new("RGB", (16, 8))
    for count, size in ((1, (8, 16)), (2**31, (16, 8)), (2**32 - 1, (16, 8))):
        exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, count, 6, 0)
        image.save(tmp_path / "a.jpg", exif=exif)
        assert read_image(tmp_path / "a.jpg").size == size  # an orientation of gigabytes says nothing
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = "x" * (2 * MIB)
    image.save(tmp_path / "a.tif", tiffinfo=tags)
    assert read_image(tmp_path / "a.tif").size == (16, 8)


def test_text_that_fits_stays(tmp_path):
    """A workflow of 100 KB in a picture, as ComfyUI writes them, is no bomb."""
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 100_000)
    info.add_text("prompt", "y" * 100_000, zip=True)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", pnginfo=info)
    assert read_image(tmp_path / "a.png").size == (16, 16)


def opened(folder: Path):
    return open_dataset(DataConfig(path=str(folder), resolution=16, workers=0), 1, 4)


def test_rows_of_tables_are_bounded(tmp_path, bounded):
    write_picture(tmp_path / "a.png")
    good = json.dumps({"file_name": "a.png", "text": "a cat"})
    deep = '{"file_name": "a.png", "text": ' + 10**5 * "[" + "}"
    lines = [
        good,
        json.dumps({"file_name": "a.png", "text": MAX_CAPTION * "x"}),
        good,
        deep,
        3 * MAX_CAPTION * "[",
        good,
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    dataset = opened(tmp_path)
    assert len(dataset.samples) == 3
    assert dataset.dropped == [
        ("metadata.jsonl:2", f"is longer than {MAX_CAPTION} bytes"),
        ("metadata.jsonl:4", "is no JSON"),
        ("metadata.jsonl:5", f"is longer than {MAX_CAPTION} bytes"),
    ]


@pytest.mark.parametrize("ending", ["", "\n"])
def test_row_of_exactly_the_most_bytes(tmp_path, ending):
    write_picture(tmp_path / "a.png")
    start = '{"file_name": "a.png", "text": "'
    line = start + (MAX_CAPTION - len(start) - 2 - len(ending)) * "x" + '"}' + ending
    (tmp_path / "metadata.jsonl").write_text(
        line + ("" if ending else "\n") + json.dumps({"file_name": "a.png", "text": "b"})
    )
    assert len(line) == MAX_CAPTION
    assert len(opened(tmp_path).samples) == (2 if ending else 1)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.json", "metadata.jsonl"])
def test_tables_that_are_read_whole_are_bounded(tmp_path, bounded, name):
    write_picture(tmp_path / "a.png")
    with open(tmp_path / name, "wb") as file:
        file.write(b"[" if "json" in name else b"file_name,text\n")
        file.truncate(2**34)
    with pytest.raises(ValueError, match=rf"{name}: has {2**34} bytes, expected at most {MAX_TABLE}"):
        opened(tmp_path)


def test_captions_are_bounded(tmp_path, bounded):
    for name in "ab":
        write_picture(tmp_path / f"{name}.png").with_suffix(".txt").write_text("a cat")
    with open(tmp_path / "b.txt", "wb") as file:
        file.truncate(2**34)
    reason = f"its caption file b.txt has {2**34} bytes, expected at most {MAX_CAPTION}"
    assert opened(tmp_path).dropped == [("b.png", reason)]


def test_packed_file_that_holds_more_than_it_says(tmp_path, bounded):
    """A gigabyte of zeros in a megabyte, behind a header of 40 values, and headers of more values than there are."""
    path = tmp_path / "labels-idx1-ubyte.gz"
    header = bytes([0, 0, 8, 1])
    packed = gzip.compress(header + struct.pack(">I", 40), mtime=0) + 8 * gzip.compress(bytes(128 * MIB), 1, mtime=0)
    path.write_bytes(packed)
    with pytest.raises(ValueError, match=r"is no whole idx file .*41 values"):
        read_idx(path, 1)
    path.write_bytes(gzip.compress(header + struct.pack(">I", 2**32 - 1) + bytes(10)))
    with pytest.raises(ValueError, match="is no whole idx file .*0 values"):
        read_idx(path, 1)
    path.write_bytes(gzip.compress(header + struct.pack(">I", 40) + bytes(40)))
    assert np.array_equal(read_idx(path, 1), np.zeros(40))
