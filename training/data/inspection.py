"""Checks each file of a data folder and reads its size; results are kept between runs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from safetensors import safe_open
from tqdm import tqdm

from tim_model.files.tensor_files import abbreviated, one_line, write_text

from ..processes.share import Share, rank, share_by
from .images.read_image import READER, read_image
from .tensor_cache import cache_key, hash_file

MAX_CLASSES = 2**20  # a larger label is a mistake, and a network for it would fill the memory
MAX_LATENT = 2**26  # values of one file: 32 channels of 1024x1024 cells, and their mirror image


@dataclass(frozen=True)
class Inspection:
    """The result of checking one file: the hash of its content, its size, and its problem if any.

    `width` and `height` are upright pixels of an image, or cells of a latent, which also has `channels` and a `label`.
    """

    digest: str
    width: int = 0
    height: int = 0
    channels: int = 3
    label: int | None = None
    problem: str = ""


class Inspections:
    """The inspections of all files of a folder; unchanged files are not read again.

    Args:
        inspect: reads one file.
        folder: names are relative to it.
        index: JSON file that stores them, such as `index_path`; None stores nothing.
    """

    def __init__(self, inspect: Callable[[Path], Inspection], folder: Path, index: Path | None):
        self.inspect = inspect
        self.folder = folder
        self.index = index
        self.known = read_index(index)

    def version(self, path: Path) -> tuple[str, list[int | str]]:
        """A file's name, and a version that changes with its content."""
        return path.relative_to(self.folder).as_posix(), file_version(path)

    def __call__(self, path: Path) -> Inspection:
        try:
            name, version = self.version(path)
            found = self.known.get(name)
            if found is None or found["version"] != version:
                found = self.known[name] = {"version": version, **asdict(self.inspect(path))}
        except OSError as error:  # missing permission, or a failing disk
            return Inspection("", problem=f"cannot be read ({error.strerror})")
        return Inspection(**{key: value for key, value in found.items() if key != "version"})

    def listing(self, paths: Iterable[Path]) -> str:
        """The same for files of the same names and versions."""
        digest = hashlib.sha256()
        for path in paths:
            try:
                digest.update(repr(self.version(path)).encode())
            except OSError:
                digest.update(path.relative_to(self.folder).as_posix().encode(errors="surrogateescape"))
        return digest.hexdigest()

    def remember(self, paths: Iterable[Path], found: Iterable[Inspection]) -> None:
        """Add the results of other processes."""
        for path, inspection in zip(paths, found, strict=True):
            with suppress(OSError):
                name, version = self.version(path)
                if inspection.digest:
                    self.known[name] = {"version": version, **asdict(inspection)}

    def save(self) -> None:
        """Write the index, whole or not at all."""
        if self.index is not None:
            write_text(self.index, json.dumps(self.known))


def inspect_all(paths: list[Path], inspections: Inspections, workers: int, share: Share) -> dict[Path, Inspection]:
    """Inspect each file and write the index.

    Processes whose files agree in name and version each check a share and exchange the results.

    Args:
        share: among the processes with the same index; the first of them writes it.
    """
    group = share_by(inspections.listing(paths))
    own = group.of(paths)
    found: list[Inspection | None] = [None] * len(paths)
    try:
        with ThreadPoolExecutor(max(1, workers)) as pool:
            results = pool.map(inspections, own)
            results = list(tqdm(results, "checking files", len(own), unit="file", disable=rank() > 0 or None))
        for k, part in enumerate(group.gather(results)):
            found[k :: group.world] = part
        if group.world > 1:
            inspections.remember(paths, found)
    finally:
        if share.rank == 0:
            inspections.save()
    return dict(zip(paths, found, strict=True))


def index_path(cache: str, folder: str) -> Path:
    """The index file of a data folder; each folder has its own."""
    return Path(cache) / f"folder-{cache_key(Path(folder).resolve())}" / "files.json"


def file_version(path: Path) -> list[int | str]:
    """A version that changes with the content of a file, or with the code that reads it.

    Size and modification time alone are not enough: copies and archives restore the time, and bitmaps of equal size
    have equal length.
    """
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, READER]


def read_index(path: Path | None) -> dict[str, dict]:
    """The content of an index; {} if it is missing or damaged, since it can be rebuilt."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
        valid = isinstance(content, dict) and all(map(is_entry, content.values()))
    except (OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return {}
    return content if valid else {}


def is_entry(entry: dict) -> bool:
    """Whether an entry of an index has the form that `Inspections` writes."""
    label = entry["label"]
    return (
        entry.keys() == {"version", *(field.name for field in fields(Inspection))}
        and all(isinstance(entry[name], str) for name in ("digest", "problem"))
        and all(type(entry[name]) is int for name in ("width", "height", "channels"))
        and (label is None or type(label) is int)
    )


def inspect_image(path: Path) -> Inspection:
    """Read and decode an image file."""
    digest = hash_file(path)
    try:
        image = read_image(path)
    except ValueError as error:
        return Inspection(digest, problem=str(error))
    return Inspection(digest, *image.size)


def inspect_mask(path: Path) -> Inspection:
    """Read and decode the file of a loss mask; an all black one would leave nothing of its image."""
    found = inspect_image(path)
    if not found.problem and not any(high for _, high in read_image(path).getextrema()):
        return replace(found, problem="is black everywhere: nothing of its image would be trained")
    return found


def inspect_latent(path: Path) -> Inspection:
    """Read a file of the released class-latent layout: `latent` (2,C,H,W), original and mirrored, and `label`."""
    digest = hash_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if not {"latent", "label"} <= set(names):
                return Inspection(digest, problem=f"holds {abbreviated(names) or 'nothing'}, expected latent and label")
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in ("latent", "label")}
            if problem := shape_problem(**shapes):
                return Inspection(digest, problem=problem)
            latent, label = file.get_tensor("latent"), file.get_tensor("label")
    except Exception as error:  # noqa: BLE001, safetensors and the system raise many kinds
        return Inspection(digest, problem=f"is no whole safetensors file ({one_line(error)})")
    if not latent.is_floating_point():
        return Inspection(digest, problem=f"has latents of {latent.dtype}, expected floating-point numbers")
    if label.is_floating_point() or not 0 <= int(label) < MAX_CLASSES:
        return Inspection(digest, problem=f"has the label {label.item()}, expected one whole number from 0")
    if not latent.isfinite().all():
        return Inspection(digest, problem="holds NaN or infinite latents")
    _, channels, height, width = latent.shape
    return Inspection(digest, width, height, channels, int(label))


def shape_problem(latent: tuple[int, ...], label: tuple[int, ...]) -> str:
    """Why tensors of these shapes are not a latent with its label, "" if they are; checked before reading them."""
    if len(latent) != 4 or latent[0] != 2 or not all(latent):
        return f"has a latent of shape {latent}, expected (2, C, H, W)"
    if math.prod(latent) > MAX_LATENT:
        return f"has a latent of shape {latent}, expected at most {MAX_LATENT} values"
    return "" if math.prod(label) == 1 else f"has labels of shape {label}, expected one whole number from 0"
