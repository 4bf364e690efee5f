"""Images with captions or labels in a table: metadata.jsonl, metadata.csv or metadata.json."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from .entries import Entry, Layout, count, some
from .folders import Tree
from .plain_text import MAX_CAPTION, MAX_TABLE, decode, marked_encoding, read_bounded

TABLES = ("metadata.jsonl", "metadata.csv", "metadata.json")  # the first one in a folder is used


@dataclass(frozen=True)
class Row:
    """One row of a table, or the reason why it is invalid; `place` is FILE:LINE."""

    place: Path
    values: dict = field(default_factory=dict)
    problem: str = ""


def metadata_tables(tree: Tree) -> list[Path]:
    """The table in a folder; without one, the tables of its subfolders, one for each."""
    found: dict[Path, Path] = {}
    for name in TABLES:
        for path in tree.files:
            if path.name == name:
                found.setdefault(path.parent, path)
    return [found[tree.folder]] if tree.folder in found else sorted(found.values())


def metadata_layout(tree: Tree, tables: list[Path]) -> Layout:
    """Images named by tables: "file_name" with "text" (or "caption"), one or a list, or "label" in each row."""
    entries, both = [], 0
    for table in tables:
        for row in read_table(table):
            entries.append(row_entry(table.parent, row))
            both += bool(entries[-1].captions) and row.values.get("label") not in (None, "")
    named = {entry.path for entry in entries}
    unnamed = [tree.name(path) for path in tree.pictures() if path not in named]
    unread = [tree.name(p) for p in tree.files if p.name in TABLES and p not in tables and p.parent == tables[0].parent]
    notes = [f"images that no table names, left alone: {len(unnamed)} ({some(unnamed)})"] if unnamed else []
    notes += [f"{name}: left alone beside {tables[0].name}" for name in unread]
    if both:
        notes.append(f"{count(both, 'row')} with a text and a label: the text is taken")
    return Layout("metadata", f"images named by {some([tree.name(t) for t in tables])}", entries, notes=notes)


def row_entry(folder: Path, row: Row) -> Entry:
    """The image that a row names, with its captions or label."""
    text = row.values.get("text")
    text = row.values.get("caption") if text is None else text
    label = whole_number(row.values.get("label"))
    texts = text if isinstance(text, list) else [text]
    captions = tuple(t.strip() for t in texts if isinstance(t, str) and t.strip())
    if row.problem:
        return Entry(row.place, problem=row.problem)
    if captions and all(isinstance(t, str) for t in texts):
        return named_entry(folder, row, "file_name", Entry(row.place, captions))
    if isinstance(label, (int, str)) and not isinstance(label, bool) and label != "":
        return named_entry(folder, row, "file_name", Entry(row.place, label=label))
    if text is None:
        return Entry(row.place, problem='has neither a "text" nor a "label"')
    kind = "empty" if all(isinstance(t, str) for t in texts) else "neither a text nor a list of texts"
    return Entry(row.place, problem=f'has a "text" that is {kind}')


def whole_number(label: object) -> object:
    """The label 3 for 3.0, which spreadsheets write; any other label as it is."""
    if isinstance(label, str) and re.fullmatch(r"[0-9]{1,9}\.0+", label):
        label = float(label)
    return int(label) if isinstance(label, float) and label.is_integer() else label


def named_entry(folder: Path, row: Row, key: str, entry: Entry) -> Entry:
    """`entry` for the image in `folder` that a row names, or the reason why there is none."""
    name = row.values.get(key)
    if not isinstance(name, str) or not name:
        return Entry(row.place, problem=f'names no image file, expected its name in "{key}"')
    found = [inside(folder, s) for s in dict.fromkeys((name, *spellings(name), *spellings(name.replace("\\", "/"))))]
    for inner in filter(None, found):
        if is_file(folder / inner):
            return replace(entry, path=folder / inner)
    reason = "lies outside the folder" if None in found else "does not exist"
    return Entry(row.place, problem=f"names {name[:80]}, which {reason}")


def spellings(name: str) -> list[str]:
    """The Unicode forms of a name; systems write accents differently."""
    return [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]


def inside(folder: Path, name: str) -> str | None:
    """The path relative to `folder` of a relative or absolute `name`; None if it is outside."""
    for find in (os.path.abspath, os.path.realpath):
        start = find(folder)
        path = os.path.normpath(os.path.join(start, name))
        if path == start or path.startswith(os.path.join(start, "")):
            return os.path.relpath(path, start)
    return None


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL, a link to itself
        return False


# -------------------------------------------------------------------------------------------- files of tables


def read_table(path: Path) -> Iterator[Row]:
    """The rows of a table.

    Raises:
        ValueError: the file as a whole is not a table; with the file name.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(4096)
            file.seek(0)
            if path.suffix == ".csv":
                yield from csv_rows(path, decode(read_bounded(path, MAX_TABLE)))
            elif path.suffix == ".json" or start.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"["):
                yield from array_rows(path, decode(read_bounded(path, MAX_TABLE)))
            elif marked_encoding(start) in ("UTF-16", "UTF-32"):
                yield from line_rows(path, io.BytesIO(decode(read_bounded(path, MAX_TABLE)).encode()))
            else:
                yield from line_rows(path, file)
    except (ValueError, OSError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"cannot be read ({error.strerror})"
        advice = "rename it if it does not describe the images"
        raise ValueError(f"{path}: {reason}; {advice}") from None


def line_rows(path: Path, file: BinaryIO) -> Iterator[Row]:
    """Rows of JSON lines; blank ones are skipped."""
    for number, line in enumerate(iter(lambda: file.readline(MAX_CAPTION), b""), start=1):
        place = path.with_name(f"{path.name}:{number}")
        if len(line) == MAX_CAPTION and not line.endswith(b"\n"):
            skip_line(file)
            yield Row(place, problem=f"is longer than {MAX_CAPTION} bytes")
            continue
        if not line.strip(b" \t\r\n\xef\xbb\xbf"):
            continue
        try:
            values = json.loads(decode(line))
        except (ValueError, RecursionError) as error:
            known = isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError)
            yield Row(place, problem=str(error) if known else "is no JSON")
            continue
        yield Row(place, values) if isinstance(values, dict) else Row(place, problem="is no JSON object")


def skip_line(file: BinaryIO) -> None:
    """Skip the rest of this line."""
    while (part := file.readline(MAX_CAPTION)) and not part.endswith(b"\n"):
        pass


def array_rows(path: Path, text: str) -> Iterator[Row]:
    """Rows of a JSON list of objects; the first one is FILE:1."""
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is no whole JSON list") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        expected = "a list of objects with file_name and text or label"
        raise ValueError(f"holds {'other things' if isinstance(rows, list) else 'no list'}, expected {expected}")
    for number, row in enumerate(rows, start=1):
        yield Row(path.with_name(f"{path.name}:{number}"), row)


def csv_rows(path: Path, text: str) -> Iterator[Row]:
    """Rows of comma-separated values under a header."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns = reader.fieldnames or []
        if "file_name" not in columns or not {"text", "caption", "label"} & set(columns):
            raise ValueError(f"has the columns {some(columns) or 'none'}, expected file_name and text or label")
        for row in reader:
            place = path.with_name(f"{path.name}:{reader.line_num}")
            more = "has more columns than the header, expected quotes around texts with commas"
            yield Row(place, problem=more) if None in row else Row(place, row)
    except csv.Error as error:
        raise ValueError(f"is no table of comma-separated values ({error})") from None
