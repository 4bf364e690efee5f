"""Captions in text files next to images."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from .entries import Entry, count, some
from .plain_text import MAX_CAPTION, decode, read_bounded

SIDECARS = (".txt", ".caption")  # if an image has several, the first is used
UNREAD = (".json", ".xml", ".yaml")  # other programs store captions in these


class Sidecars:
    """Finds the caption files of images among some files: a.txt or a.png.txt for a.png."""

    def __init__(self, files: Iterable[Path]):
        self.files: dict[str, Path] = {}
        for path in files:
            if (ending := path.suffix.lower()) in (*SIDECARS, *UNREAD):
                self.files.setdefault(same_name(str(path.with_suffix(ending))), path)

    def of(self, picture: Path, endings: Iterable[str] = SIDECARS) -> list[Path]:
        """The caption files of an image; the first one is used."""
        whole = same_name(str(picture))
        stems = whole, whole.removesuffix(picture.suffix)
        return [self.files[stem + e] for e in endings for stem in stems if stem + e in self.files]

    def entry(self, picture: Path, otherwise: str = "") -> Entry:
        """An image with its caption, `otherwise` for one without a caption file, or the reason why it has none."""
        found = self.of(picture)
        if not found and otherwise:
            return Entry(picture, (otherwise,))
        if not found:
            unread = "".join(f"; {path.name} is not read" for path in self.of(picture, UNREAD))
            expected = f"expected {picture.stem}.txt or {picture.stem}.caption beside it"
            return Entry(picture, problem=f"has no caption, {expected}{unread}")
        try:
            caption = read_caption(found[0])
        except ValueError as error:
            return Entry(picture, problem=f"its caption file {found[0].name} {error}")
        return Entry(picture, (caption,), problem="" if caption else f"its caption file {found[0].name} is empty")

    def notes(self, entries: Iterable[Entry]) -> list[str]:
        """Remarks on the captions of images."""
        captioned = [entry for entry in entries if entry.captions and not entry.problem and self.of(entry.path)]
        differ = [entry.path.name for entry in captioned if self.differ(entry)]
        lines = [entry.path.name for entry in captioned if "\n" in entry.captions[0]]
        notes = []
        if differ:
            text = "several caption files with different texts, the first counts in the order .txt, .caption"
            notes.append(f"{count(len(differ), 'image')} with {text}: {some(differ)}")
        if lines:
            notes.append(f"{count(len(lines), 'caption')} of several lines: {some(lines)}")
        return notes

    def differ(self, entry: Entry) -> bool:
        """Whether another caption file of the image has another text, or cannot be read."""
        try:
            return any(read_caption(path) != entry.captions[0] for path in self.of(entry.path)[1:])
        except ValueError:
            return True


def read_caption(path: Path) -> str:
    """The stripped text of a caption file; ValueError with the reason, without the file name."""
    try:
        return decode(read_bounded(path, MAX_CAPTION)).strip()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None


def same_name(name: str) -> str:
    """A name in one Unicode form: macOS writes é as two characters."""
    return unicodedata.normalize("NFC", name)
