"""The ways in which training data lies in a folder; each is a function from the folder to its entries."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .image_kinds import ENDINGS, OTHER_ENDINGS

SIDECARS = (".txt", ".caption")
IDX_IMAGES = "*-images-idx3-ubyte*"


@dataclass(frozen=True)
class Entry:
    """One picture that a layout names, or the reason why it cannot be used."""

    path: Path
    captions: tuple[str, ...] = ()
    label: int | str | None = None
    bucket: tuple[int, int] | None = None  # (width, height) where the layout says
    problem: str = ""


def find_layout(folder: Path) -> str:
    """The name in `LAYOUTS`, or "idx" or "latents", of a folder.

    Raises:
        ValueError: no such folder, or nothing in it that looks like training data.
    """
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "no such folder"
        raise ValueError(f"data.path={folder}: {kind}, expected a folder with training data")
    if any(folder.glob(IDX_IMAGES)):
        return "idx"
    if (folder / "data_info.jsonl").is_file():
        return "upstream text"
    if (folder / "metadata.jsonl").is_file():
        return "metadata"
    images = list(image_files(folder))
    if not images and next(folder.rglob("*.safetensors"), None):
        return "latents"
    if not images:
        endings = ", ".join(sorted(ENDINGS))
        others = ", ".join(sorted({path.suffix for path in image_files(folder, OTHER_ENDINGS)}))
        found = f"; convert its {others} files to PNG or JPEG" if others else ""
        raise ValueError(f"data.path={folder}: holds no images ({endings}) and no latents (.safetensors){found}")
    captioned = any(path.with_suffix(ending).is_file() for path in images for ending in SIDECARS)
    return "captions" if captioned or any(path.parent == folder for path in images) else "classes"


def image_files(folder: Path, endings: Collection[str] = ENDINGS) -> list[Path]:
    """All images in a folder and below, hidden ones excepted, in an order that no file system changes."""
    named = (path for path in folder.rglob("*") if path.suffix.lower() in endings)
    found = (path for path in named if path.is_file() or path.is_symlink())  # a link to nothing is reported later
    visible = (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(visible, key=lambda path: path.relative_to(folder).as_posix())


def captioned_images(folder: Path) -> Iterator[Entry]:
    """Images with their caption in a .txt or .caption file of the same name."""
    for path in image_files(folder):
        sidecar = next((s for s in map(path.with_suffix, SIDECARS) if s.is_file()), None)
        if sidecar is None:
            yield Entry(path, problem=f"has no caption, expected {path.stem}.txt or {path.stem}.caption beside it")
            continue
        try:
            caption = sidecar.read_text(encoding="utf-8-sig").strip()
        except UnicodeDecodeError:
            yield Entry(path, problem=f"its caption file {sidecar.name} is no UTF-8 text")
            continue
        except OSError as error:
            yield Entry(path, problem=f"its caption file {sidecar.name} cannot be read ({error.strerror})")
            continue
        yield Entry(path, (caption,), problem="" if caption else f"its caption file {sidecar.name} is empty")


def class_folders(folder: Path) -> Iterator[Entry]:
    """Images in one subfolder for each class; the names of the folders, sorted, are the classes."""
    for path in image_files(folder):
        relative = path.relative_to(folder)
        if len(relative.parts) == 1:
            yield Entry(path, problem="lies in no class folder")
        else:
            yield Entry(path, label=relative.parts[0])


def metadata_images(folder: Path) -> Iterator[Entry]:
    """Images named by metadata.jsonl: "file_name" with "text" (or "caption") or "label" in each line."""
    for place, line in json_lines(folder / "metadata.jsonl"):
        caption, label = line.get("text", line.get("caption")), line.get("label")
        if isinstance(caption, str) and caption.strip():
            yield named_entry(folder, place, line.get("file_name"), Entry(place, (caption.strip(),)))
        elif isinstance(label, (int, str)) and not isinstance(label, bool):
            yield named_entry(folder, place, line.get("file_name"), Entry(place, label=label))
        else:
            yield Entry(place, problem='has neither a "text" nor a "label"')


def upstream_text(folder: Path) -> Iterator[Entry]:
    """The released text layout: data_info.jsonl, of which bucket_sampler.json, if there, says what is used."""
    lines = list(json_lines(folder / "data_info.jsonl"))
    used = sampled_lines(folder / "bucket_sampler.json", len(lines))
    for i, (place, line) in enumerate(lines):
        captions = line.get("captions")
        size = re.search(r"-(\d+)x(\d+)$", str(line.get("bucket", "")))
        if i not in used:
            yield Entry(place, problem="is in no batch of bucket_sampler.json")
        elif not isinstance(captions, list) or not all(isinstance(c, str) for c in captions) or not any(captions):
            yield Entry(place, problem='has no "captions", expected a list of texts')
        elif size is None:
            yield Entry(place, problem=f"has the bucket {line.get('bucket')!r}, expected one that ends in -HxW")
        else:
            height, width = map(int, size.groups())
            entry = Entry(place, tuple(filter(None, captions)), bucket=(width, height))
            yield named_entry(folder, place, line.get("image_file"), entry)


LAYOUTS: dict[str, Callable[[Path], Iterator[Entry]]] = {
    "captions": captioned_images, "classes": class_folders, "metadata": metadata_images, "upstream text": upstream_text,
}  # fmt: skip


def json_lines(path: Path) -> Iterator[tuple[Path, dict]]:
    """Each object of a .jsonl file, with FILE:LINE as its place; a line that is none comes as {}."""
    for number, text in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").split("\n"), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        yield path.with_name(f"{path.name}:{number}"), line if isinstance(line, dict) else {}


def named_entry(folder: Path, place: Path, name: object, entry: Entry) -> Entry:
    """`entry` for the image `name` in `folder`, or the reason why there is none."""
    if not isinstance(name, str) or not name:
        return Entry(place, problem="names no image file")
    path = folder / name
    try:
        inside, exists = path.resolve().is_relative_to(folder.resolve()), path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL, a link to itself
        inside, exists = True, False
    if not inside:
        return Entry(place, problem=f"names {name}, which lies outside the folder")
    return replace(entry, path=path) if exists else Entry(place, problem=f"names {name[:80]}, which does not exist")


def sampled_lines(path: Path, count: int) -> set[int]:
    """The lines that the batches of bucket_sampler.json name; all `count` where there is no such file."""
    if not path.is_file():
        return set(range(count))
    try:
        batches = json.loads(path.read_text(encoding="utf-8"))
        return {int(i) for batch in batches for i in batch}
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"{path}: expected a JSON list of batches, each a list of line numbers from 0") from None
