"""The code's own English: comments, docstrings, tooltips, messages and names without private vocabulary."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tim_model", "nodes", "training")
DRAWINGS = ROOT / "training" / "emoji"  # names of things among them
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")) if path.parent != DRAWINGS]
PRIVATE = re.compile(  # words that only this project would understand in this sense, and British spellings
    r"\b(tell|tells|telling|told|mend\w*|leans?|twins?|lives|judg\w*|jury|paint\w*|anew|made for|at hand"
    r"|looks? at|colour\w*|grey|neighbour\w*)\b",
    re.IGNORECASE,
)
IMAGES = re.compile(r"\bpictures?\b", re.IGNORECASE)  # two words for one thing, though names of functions may stay
DATA = {"a picture of {phrase}", " pictures", "picture"}  # a caption, part of a seed, a key of metadata in PNG files
PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # of a name: find_layout, ImageEncoder


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every comment and string of a file."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in DATA:
            yield node.lineno, node.value


def names(source: str) -> Iterator[tuple[int, str]]:
    """Line and words of every name of a file."""
    for node in ast.walk(ast.parse(source)):
        for field in ("id", "attr", "arg", "name", "asname"):
            if isinstance(name := getattr(node, field, None), str):
                yield getattr(node, "lineno", 0), " ".join(PARTS.findall(name))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_words_are_plain(path):
    source = path.read_text(encoding="utf-8")
    found = [(line, PRIVATE.findall(text) + IMAGES.findall(text)) for line, text in texts(source)]
    found += [(line, PRIVATE.findall(name)) for line, name in names(source)]
    assert [(line, words) for line, words in found if words] == []
