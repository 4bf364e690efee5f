"""Text files as editors leave them: UTF-8, or what a byte order mark names."""

from __future__ import annotations

import codecs

# the mark of UTF-32 starts with that of UTF-16
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16", codecs.BOM_UTF8: "UTF-8-sig",
}  # fmt: skip


def marked_encoding(content: bytes) -> str:
    """The encoding that the first bytes of a file name, "UTF-8" where they name none."""
    return next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), "UTF-8")


def decode(content: bytes) -> str:
    """The text of a file's bytes, its line ends as \\n.

    Raises:
        ValueError: another encoding, or no text; without the file's name.
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
