"""Caption files as people and programs leave them: every text that can be read is, the rest says why not."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from training.config.data_schema import DataConfig
from training.data.dataset import Dataset
from training.data.open_dataset import open_dataset

from ...tiny import write_picture


def opened(folder: Path) -> Dataset:
    return open_dataset(DataConfig(path=str(folder), resolution=32, workers=0), 1, 4)


READ = {
    "plain": (b"a red bag", "a red bag"),
    "mark": (b"\xef\xbb\xbfa red bag", "a red bag"),
    "windows": (b"a red bag\r\n", "a red bag"),
    "lines": (b"a red bag\r\na green dress\r\n", "a red bag\na green dress"),
    "UTF-16, little": ("a red bag".encode("utf-16"), "a red bag"),
    "UTF-16, big": (b"\xfe\xff" + "a réd bag".encode("utf-16-be"), "a réd bag"),
    "UTF-32": ("a red bag".encode("utf-32"), "a red bag"),
    "emoji": ("a 🔥 bag 👩‍👩‍👧".encode(), "a 🔥 bag 👩‍👩‍👧"),
    "tab": (b"a red\tbag", "a red\tbag"),
    "tags": (b"1girl, (solo:1.2), [bad], <lora:foo:1>", "1girl, (solo:1.2), [bad], <lora:foo:1>"),
    "long": (b"red bag, " * 200, ("red bag, " * 200).strip()),
}


@pytest.mark.parametrize("name", READ)
def test_texts_that_are_read(tmp_path, name):
    content, caption = READ[name]
    write_picture(tmp_path / "a.png").with_suffix(".txt").write_bytes(content)
    assert opened(tmp_path).samples[0].captions == (caption,)


NOT_READ = {
    "cp1252": ("a café".encode("cp1252"), "is no UTF-8 text (byte 0xE9 at 5), expected UTF-8"),
    "Shift-JIS": ("青い鳥".encode("shift-jis"), "is no UTF-8 text (byte 0x90 at 0), expected UTF-8"),
    "UTF-16 without a mark": (
        "a red bag".encode("utf-16-le"),
        "holds NUL bytes, as UTF-16 without a byte order mark does, expected UTF-8",
    ),
    "NUL": (b"a red\0bag", "holds NUL bytes, as UTF-16 without a byte order mark does, expected UTF-8"),
    "half a character": (b"\xff\xfea", "is no UTF-16 text (byte 0x61 at 2), expected UTF-8"),
    "nothing": (b"", "is empty"),
    "spaces": (b" \r\n\t", "is empty"),
    "a mark alone": (b"\xef\xbb\xbf", "is empty"),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_texts_that_are_not_read(tmp_path, name):
    content, reason = NOT_READ[name]
    write_picture(tmp_path / "a.png").with_suffix(".txt").write_bytes(content)
    write_picture(tmp_path / "b.png").with_suffix(".txt").write_text("a cat")
    assert opened(tmp_path).dropped == [("a.png", f"its caption file a.txt {reason}")]


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        ("a.png", "a.TXT"), ("a.png", "a.Caption"), ("a.png", "a.png.txt"), ("a.b.c.png", "a.b.c.txt"),
        ("[a] *.png", "[a] *.txt"), ("a  #1 100%.png", "a  #1 100%.txt"), ("x" * 251 + ".png", "x" * 251 + ".txt"),
        ("caf\u00e9.png", unicodedata.normalize("NFD", "caf\u00e9.txt")),
    ],
    ids=ascii,
)  # fmt: skip
def test_names_of_caption_files(tmp_path, picture, text):
    write_picture(tmp_path / picture)
    (tmp_path / text).write_text("a red bag")
    assert opened(tmp_path).samples[0].captions == ("a red bag",)


def test_one_text_beside_two_pictures(tmp_path):
    for ending in ("png", "jpg"):
        write_picture(tmp_path / f"a.{ending}").with_suffix(".txt").write_text("one for two")
    (tmp_path / "a.png.txt").write_text("for one")
    assert {s.name: s.captions[0] for s in opened(tmp_path).samples} == {"a.jpg": "one for two", "a.png": "for one"}


def test_txt_and_caption(tmp_path):
    for name, other in (("a", "tags"), ("b", "a sentence")):
        write_picture(tmp_path / f"{name}.png").with_suffix(".txt").write_text("tags")
        (tmp_path / f"{name}.caption").write_text(other)
    dataset = opened(tmp_path)
    assert [s.captions for s in dataset.samples] == [("tags",), ("tags",)]
    text = "several caption files with different texts, the first counts in the order .txt, .caption: b.png"
    assert dataset.notes == [f"1 image with {text}"]


def test_captions_of_several_lines_are_told(tmp_path):
    for name, text in (("a", "one\ntwo"), ("b", "one")):
        write_picture(tmp_path / f"{name}.png").with_suffix(".txt").write_text(text)
    assert opened(tmp_path).notes == ["1 caption of several lines: a.png"]


def test_captions_in_other_files_are_pointed_out(tmp_path):
    write_picture(tmp_path / "a.png").with_suffix(".json").write_text('{"caption": "a cat"}')
    write_picture(tmp_path / "b.png").with_suffix(".txt").write_text("a cat")
    reason = "has no caption, expected a.txt or a.caption beside it; a.json is not read"
    assert opened(tmp_path).dropped == [("a.png", reason)]
