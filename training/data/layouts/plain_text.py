"""Reads text files in UTF-8, or in the encoding of their byte order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

MAX_CAPTION = 2**20  # bytes of one caption, or of one row of a table
MAX_TABLE = 2**27  # bytes of a table that is read whole: a million rows; .jsonl is read by lines and may be longer
# the mark of UTF-32 starts with that of UTF-16
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16", codecs.BOM_UTF8: "UTF-8-sig",
}  # fmt: skip


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a file.

    Raises:
        ValueError: it is longer than `most` bytes; without the file name.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"has {size} bytes, expected at most {most}")
    return path.read_bytes()


def marked_encoding(content: bytes) -> str:
    """The encoding of the byte order mark at the start of a file, "UTF-8" without a mark."""
    return next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), "UTF-8")


def decode(content: bytes) -> str:
    """The text of a file's bytes, with \\n as line ends.

    Raises:
        ValueError: another encoding, or not a text; without the file name.
    """
    encoding = marked_encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        where = f"byte 0x{content[error.start]:02X} at {error.start}"
        raise ValueError(f"is no {encoding.removesuffix('-sig')} text ({where}), expected UTF-8") from None
    if "\0" in text:
        raise ValueError("holds NUL bytes, as UTF-16 without a byte order mark does, expected UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")
