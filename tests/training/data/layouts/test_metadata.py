"""Tables of pictures: JSON lines, one JSON list, comma-separated values, and how their names are understood."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest

from training.config.data_schema import DataConfig
from training.data.dataset import Dataset
from training.data.open_dataset import open_dataset

from ...tiny import write_picture

ROWS = [{"file_name": "a.png", "text": "a cat"}, {"file_name": "sub/b.png", "text": "a dog"}]
READ = [("a.png", ("a cat",)), ("sub/b.png", ("a dog",))]


def opened(folder: Path | str, **settings) -> Dataset:
    return open_dataset(DataConfig(**{"path": str(folder), "resolution": 32, "workers": 0} | settings), 1, 4)


def captions(dataset: Dataset) -> list[tuple[str, tuple[str, ...]]]:
    return [(s.name, s.captions) for s in dataset.samples]


@pytest.fixture
def folder(tmp_path) -> Path:
    for i, name in enumerate(("a.png", "sub/b.png")):
        write_picture(tmp_path / name, seed=i)
    return tmp_path


def lines(*rows: dict) -> str:
    return "\n".join(map(json.dumps, rows))


TABLES = {
    "metadata.jsonl": lines(*ROWS).encode(),
    "UTF-16/metadata.jsonl": lines(*ROWS).encode("utf-16"),
    "list/metadata.jsonl": json.dumps(ROWS, indent=1).encode(),
    "UTF-16 list/metadata.jsonl": json.dumps(ROWS).encode("utf-16"),
    "metadata.json": json.dumps(ROWS).encode(),
    "metadata.csv": b"file_name,text\r\na.png,a cat\r\nsub/b.png,a dog\r\n",
    "mark/metadata.csv": b"\xef\xbb\xbfid,file_name,caption\n1,a.png,a cat\n2,sub/b.png,a dog\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_every_maker(folder, name):
    path = folder / Path(name).name
    path.write_bytes(TABLES[name])
    dataset = opened(folder)
    assert captions(dataset) == READ and not dataset.dropped and not dataset.notes
    assert dataset.reading == f"images named by {path.name}"


def test_commas_in_captions(folder):
    (folder / "metadata.csv").write_text('file_name,text\na.png,"a red, bag"\nsub/b.png,a red, bag\n')
    dataset = opened(folder)
    assert captions(dataset) == [("a.png", ("a red, bag",))]
    reason = "has more columns than the header, expected quotes around texts with commas"
    assert dataset.dropped == [("metadata.csv:3", reason)]


def test_labels_in_comma_separated_values(folder):
    (folder / "metadata.csv").write_text("file_name,label\na.png,10\nsub/b.png,2\n")
    assert [s.label for s in opened(folder).samples] == [10, 2]
    (folder / "metadata.csv").write_text("file_name,label\na.png,dog\nsub/b.png,cat\n")
    assert opened(folder).class_names == ["cat", "dog"]


def test_labels_of_spreadsheets(folder):
    (folder / "metadata.csv").write_text("file_name,label\na.png,10.0\nsub/b.png,2.0\na.png,-1\n")
    dataset = opened(folder)
    assert [s.label for s in dataset.samples] == [10, 2]
    assert dataset.dropped == [("a.png", "has the label '-1', expected one in data.class_names, or a number from 0")]
    (folder / "metadata.csv").unlink()
    (folder / "metadata.jsonl").write_text(lines({"file_name": "a.png", "label": 3.0}))
    assert [s.label for s in opened(folder).samples] == [3]


def test_list_of_captions(folder):
    rows = [{**ROWS[0], "text": ["a cat", " a kitten ", ""]}, {**ROWS[1], "text": ["a dog", 3]}]
    (folder / "metadata.jsonl").write_text(lines(*rows))
    dataset = opened(folder)
    assert captions(dataset) == [("a.png", ("a cat", "a kitten"))]
    assert dataset.dropped == [("metadata.jsonl:2", 'has a "text" that is neither a text nor a list of texts')]


@pytest.mark.parametrize(
    "name", ["sub\\b.png", "./sub/b.png", "sub/../sub/b.png", ".\\sub\\b.png", "{folder}/sub/b.png"]
)
def test_names_of_files(folder, monkeypatch, name):
    """Also where the data's path is relative, and names are absolute."""
    (folder / "metadata.jsonl").write_text(lines({**ROWS[1], "file_name": name.format(folder=folder)}))
    monkeypatch.chdir(folder.parent)
    for path in (folder, folder.name, f"../{folder.parent.name}/{folder.name}"):
        dataset = opened(path)
        assert captions(dataset) == READ[1:]
        assert dataset.read(0, False).shape == (3, 16, 16)


def test_name_with_a_backslash_in_it(folder):
    if os.sep == "\\":
        pytest.skip("this system knows no such names")
    write_picture(folder / "sub\\b.png", (24, 24))
    (folder / "metadata.jsonl").write_text(lines({**ROWS[1], "file_name": "sub\\b.png"}))
    assert opened(folder).samples[0].bucket == (24, 24)


def test_accents_of_another_system(folder):
    write_picture(folder / unicodedata.normalize("NFD", "café.png"))
    (folder / "metadata.jsonl").write_text(lines({"file_name": "caf\u00e9.png", "text": "a cat"}))
    assert len(opened(folder).samples) == 1


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd.png", "sub/../../a.png"])
def test_names_outside_of_the_folder(folder, name):
    write_picture(folder.parent / "a.png")
    (folder / "metadata.jsonl").write_text(lines(ROWS[0], {**ROWS[1], "file_name": name}))
    assert opened(folder).dropped == [("metadata.jsonl:2", f"names {name}, which lies outside the folder")]


BAD_LINES = {
    b"{broken": "is no JSON",
    b"[1, 2]": "is no JSON object",
    b'{"file_name": "a.png", "text": "caf\xe9"}': "is no UTF-8 text (byte 0xE9 at 35), expected UTF-8",
    b'{"file_name": "a.png", "text": " "}': 'has a "text" that is empty',
    b'{"file_name": "a.png", "text": {"en": "a"}}': 'has a "text" that is neither a text nor a list of texts',
    b'{"file_name": "a.png", "label": 1.5}': 'has neither a "text" nor a "label"',
    b'{"image": "a.png", "text": "a"}': 'names no image file, expected its name in "file_name"',
    b'{"a": ' + b"9" * 5000 + b"}": "Exceeds the limit",
}


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
def test_lines_that_cannot_be_used(folder, line):
    (folder / "metadata.jsonl").write_bytes(json.dumps(ROWS[1]).encode() + b"\n" + line)
    dataset = opened(folder)
    assert captions(dataset) == READ[1:]
    ((name, reason),) = dataset.dropped
    assert name == "metadata.jsonl:2" and reason.startswith(BAD_LINES[line])


BAD_TABLES = {
    "metadata.json": (b'{"a": 1}', "holds no list, expected a list of objects with file_name and text or label"),
    "list/metadata.json": (b"[1]", "holds other things, expected a list of objects with file_name and text or label"),
    "broken/metadata.jsonl": (b'[{"file_name": "a.png"', "is no whole JSON list"),
    "metadata.csv": (b"image;text\na.png;a\n", "has the columns image;text, expected file_name and text or label"),
    "empty/metadata.csv": (b"", "has the columns none, expected file_name and text or label"),
    "cp1252/metadata.csv": ("file_name,text\na.png,café".encode("cp1252"), "is no UTF-8 text (byte 0xE9 at 24)"),
    "UTF-16/metadata.csv": ("file_name,text".encode("utf-16-le"), "holds NUL bytes, as UTF-16 without a byte order"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_tables_that_cannot_be_read(folder, name):
    path = folder / Path(name).name
    content, reason = BAD_TABLES[name]
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        opened(folder)
    assert str(error.value).startswith(f"{path}: {reason}") and "\n" not in str(error.value)
    assert str(error.value).endswith("; rename it if it does not describe the images")


def test_tables_of_training_splits(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    for name in ("train", "val"):
        write_picture(root / name / "a.png")
        (root / name / "metadata.jsonl").write_text(lines(ROWS[0]))
    dataset = opened(root)
    assert captions(dataset) == [("train/a.png", ("a cat",))]
    assert dataset.notes == ["only train/ is read; left alone: val/"]


def test_tables_in_folders(folder):
    """Each names the pictures of its own folder."""
    write_picture(folder / "more" / "a.png")
    for name in ("sub", "more"):
        picture = {"sub": "b.png", "more": "a.png"}[name]
        (folder / name / "metadata.jsonl").write_text(lines({"file_name": picture, "text": name}))
    dataset = opened(folder)
    assert captions(dataset) == [("more/a.png", ("more",)), ("sub/b.png", ("sub",))]
    assert dataset.notes == ["images that no table names, left alone: 1 (a.png)"]


def test_what_is_left_alone_is_told(folder):
    (folder / "metadata.jsonl").write_text(lines({**ROWS[0], "label": 3}))
    (folder / "metadata.csv").write_text("file_name,text\n")
    assert opened(folder).notes == [
        "images that no table names, left alone: 1 (sub/b.png)", "metadata.csv: left alone beside metadata.jsonl",
        "1 row with a text and a label: the text is taken",
    ]  # fmt: skip
