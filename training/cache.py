"""What is kept on disk between runs, keyed by content: the check of each file, latents and text features."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tim_model.files import CheckpointError, abbreviated, atomic, one_line, write_safetensors

from .images import READER, read_image

MAX_CLASSES = 2**20  # a label beyond that is a mistake, and a network for it would take all memory
MAX_LATENT = 2**26  # values of one file: 32 channels of 1024x1024 cells, and their mirror image


@dataclass(frozen=True)
class Inspection:
    """What is known of one file: its content, its size, and what is wrong with it.

    `width` and `height` are upright pixels of an image, or cells of a latent, which also has `channels` and a `label`.
    """

    digest: str
    width: int = 0
    height: int = 0
    channels: int = 3
    label: int | None = None
    problem: str = ""


class Inspections:
    """The inspections of all files of a folder; files that have not changed since are not read again.

    Args:
        inspect: reads one file.
        folder: what names are relative to.
        index: JSON file to remember them in, such as `index_path`; None remembers nothing.
    """

    def __init__(self, inspect: Callable[[Path], Inspection], folder: Path, index: Path | None):
        self.inspect = inspect
        self.folder = folder
        self.index = index
        self.known = read_index(index)

    def version(self, path: Path) -> tuple[str, list[int | str]]:
        """A file's name, and what changes with it."""
        return path.relative_to(self.folder).as_posix(), file_version(path)

    def __call__(self, path: Path) -> Inspection:
        try:
            name, version = self.version(path)
            found = self.known.get(name)
            if found is None or found["version"] != version:
                found = self.known[name] = {"version": version, **asdict(self.inspect(path))}
        except OSError as error:  # no right to read it, or a failing disk
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
        """Take over what other processes found."""
        for path, inspection in zip(paths, found, strict=True):
            with suppress(OSError):
                name, version = self.version(path)
                if inspection.digest:
                    self.known[name] = {"version": version, **asdict(inspection)}

    def save(self) -> None:
        """Write the index, whole or not at all."""
        if self.index is not None:
            write_text(self.index, json.dumps(self.known))


def index_path(cache: str, folder: str) -> Path:
    """Where the inspections of a data folder are remembered: a file of its own, which no other folder reads."""
    return Path(cache) / f"folder-{cache_key(Path(folder).resolve())}" / "files.json"


def file_version(path: Path) -> list[int | str]:
    """What changes with the content of a file, or with how it is read.

    Size and time of change alone do not: copies and archives restore the time, and bitmaps of one size have one length.
    """
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, READER]


def read_index(path: Path | None) -> dict[str, dict]:
    """What an index holds; {} where there is none or it is damaged: it can be made again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
        valid = isinstance(content, dict) and all(map(is_entry, content.values()))
    except (OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return {}
    return content if valid else {}


def is_entry(entry: dict) -> bool:
    """Whether what an index holds of a file is what `Inspections` wrote."""
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
    """Why tensors of these shapes are no latent and its label, "" if they are; before any of them is read."""
    if len(latent) != 4 or latent[0] != 2 or not all(latent):
        return f"has a latent of shape {latent}, expected (2, C, H, W)"
    if math.prod(latent) > MAX_LATENT:
        return f"has a latent of shape {latent}, expected at most {MAX_LATENT} values"
    return "" if math.prod(label) == 1 else f"has labels of shape {label}, expected one whole number from 0"


class TensorCache:
    """Tensors on disk, one file each, by a key of everything that they depend on."""

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def get(self, key: str) -> Tensor:
        """The tensor under a key.

        Raises:
            ValueError: the file is missing or damaged.
        """
        try:
            return load_file(self.path(key))["value"]
        except Exception as error:  # noqa: BLE001, safetensors and the system raise many kinds
            raise ValueError(f"{self.path(key)}: cannot be read ({error}); delete it and start again") from None

    def put(self, key: str, value: Tensor) -> None:
        """Write a tensor, whole or not at all."""
        with writing(self.path(key)):
            write_safetensors({"value": value.detach().cpu().contiguous()}, self.path(key), {})


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of a file, and name the file where the system does not let it be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or one_line(error)})") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; CheckpointError where that fails."""
    with writing(path), atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def cache_key(*parts: object) -> str:
    """The key of what depends on `parts` alone."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:32]


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def hash_model(path: Path) -> str:
    """Of a model file, or of all files in a model's folder."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    return cache_key(*(f"{p.name if path.is_dir() else ''} {hash_file(p)}" for p in files))
