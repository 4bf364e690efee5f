"""Files of tensors: safetensors, and pickles that are read without running any code. Every error is one line."""

from __future__ import annotations

import os
import pickle
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .errors import CheckpointError, abbreviated, one_line, prefix_errors
from .state_dicts import dequantize, part, strip_prefix, unwrap

SAFETENSORS = (".safetensors", ".sft")
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # how files of torch.save begin: its zip format, and the older plain pickle


def read_state_dict(path: str | os.PathLike, kind: str = "network") -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by their released names, and its metadata ({} for pickles).

    Prefixes are removed, and 8-bit weights with scales are converted to bfloat16.

    Args:
        kind: of the model that is read from a file of several, a name in `PARTS`.

    Raises:
        CheckpointError: as `read_tensors`, or no such model in the file.
    """
    tensors, metadata = read_tensors(path)
    with prefix_errors(path):
        return dequantize(strip_prefix(part(tensors, kind))), metadata


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The unchanged tensors of a file, and its metadata ({} for pickles).

    Raises:
        CheckpointError: no such file, a folder, empty, truncated, an unknown format, or a pickle with anything but
            tensors in it.
    """
    path = Path(path)
    with prefix_errors(path):
        if path.is_dir():
            raise CheckpointError("is a folder, expected a .safetensors, .bin or .pt file")
        if not path.is_file():
            raise CheckpointError("no such file")
        if path.stat().st_size == 0:
            raise CheckpointError("is empty, expected a .safetensors, .bin or .pt file; download it again")
        if path.suffix.lower() in SAFETENSORS:
            return read_safetensors(path)
        if path.suffix.lower() in PICKLED:
            return read_pickle(path), {}
        raise CheckpointError(f"has the ending {path.suffix!r}, expected .safetensors or {', '.join(PICKLED)}")


def read_names(path: str | os.PathLike) -> list[str]:
    """The names of the tensors in a file; for safetensors, only the header is read. Raises as `read_tensors`."""
    path = Path(path)
    if path.suffix.lower() not in SAFETENSORS:
        return list(read_tensors(path)[0])
    with prefix_errors(path), opened(path) as file:
        return list(file.keys())


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The unchanged tensors of a safetensors file, and its metadata.

    Raises:
        CheckpointError: a damaged file, or another format.
        OSError: no such file, or no permission to read it.
    """
    with opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


@contextmanager
def opened(path: Path) -> Iterator[safe_open]:
    """An open safetensors file; errors of its reader become CheckpointErrors."""
    path.open("rb").close()  # the reader reports a file without read permission as missing
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"is no whole safetensors file ({one_line(error)}); download it again") from None


def read_pickle(path: Path) -> dict[str, Tensor]:
    damaged = (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old or odd pickles: refused below, or fine
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=starts_with(path, ZIP))
    except pickle.UnpicklingError:
        if starts_with(path, ZIP) or starts_with(path, PICKLE):
            raise CheckpointError(
                "is a pickle that holds more than tensors or is damaged; it was not run, expected a plain state dict, "
                "better as safetensors"
            ) from None
        raise CheckpointError("is no pickle, whatever its ending, expected a state dict; download it again") from None
    except PermissionError:
        raise
    except (*damaged, struct.error) as error:
        raise CheckpointError(f"is no whole pickled state dict ({one_line(error)}); download it again") from None
    return unwrap(content)


def starts_with(path: Path, magic: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def check_layout(state_dict: Mapping[str, Tensor], model: nn.Module) -> None:
    """Raise CheckpointError unless names, shapes and kinds of numbers are exactly those of `model`, meta or not."""
    expected = model.state_dict()
    if missing := [name for name in expected if name not in state_dict]:
        raise CheckpointError(f"lacks {len(missing)} of {len(expected)} tensors: {abbreviated(missing)}")
    if unexpected := [name for name in state_dict if name not in expected]:
        raise CheckpointError(f"has {len(unexpected)} tensors too many: {abbreviated(unexpected)}")
    for name, value in expected.items():
        found = state_dict[name]
        if found.shape != value.shape:
            raise CheckpointError(f"{name} has shape {tuple(found.shape)}, expected {tuple(value.shape)}")
        if found.is_floating_point() != value.is_floating_point():
            raise CheckpointError(f"{name} has dtype {found.dtype}, expected {value.dtype} or the like")


def check_values(state_dict: Mapping[str, Tensor], allow_meta: bool = False) -> None:
    """Raise CheckpointError unless every tensor is floating, holds values and all of them are finite.

    Args:
        allow_meta: let pass tensors on the meta device, which have a shape but no values.
    """
    for name, value in state_dict.items():
        if not value.is_floating_point():
            raise CheckpointError(f"{name} has dtype {value.dtype}, expected floating-point weights")
        if value.layout != torch.strided:
            raise CheckpointError(f"{name} has layout {value.layout}, expected dense weights")
        if value.is_meta and not allow_meta:
            raise CheckpointError(f"{name} has a shape but no values, expected weights")
        if not value.is_meta and not value.float().isfinite().all():
            raise CheckpointError(f"{name} holds NaN or infinite weights, expected finite ones")


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to `path` if the block succeeds and deleted if it fails."""
    path = Path(path)
    check_target(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Delete the temporary files that a killed process left beside these paths."""
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    for folder, own in names.items():
        for temporary in folder.glob(".*.tmp") if folder.is_dir() else ():
            if temporary.name[1:].rsplit(".", 2)[0] in own:
                temporary.unlink(missing_ok=True)


def check_target(path: Path) -> None:
    """Raise CheckpointError, before any work is done, unless a file can be written under that name."""
    if not path.parent.is_dir():
        raise CheckpointError(f"{path}: the folder {path.parent} does not exist, expected one to write into")
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder, expected the name of a file to write")
    if not os.access(path.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise CheckpointError(f"{path}: the folder {path.parent} cannot be written to, expected one with that right")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of a file, and name the file in errors of writing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or one_line(error)})") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; CheckpointError if that fails."""
    with writing(path), atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_safetensors(tensors: dict[str, Tensor], path: str | os.PathLike, metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, atomically."""
    with atomic(path) as temporary:
        try:
            save_file(tensors, temporary, dict(metadata))
        except SafetensorError as error:  # a full disk, above all
            raise CheckpointError(f"{path}: cannot be written ({one_line(error)})") from None
        temporary.chmod(0o644)  # newer safetensors create files that only their owner can read
