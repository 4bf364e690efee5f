"""Files of tensors: safetensors, and pickles that are read without running any code. Every refusal is one line."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

PREFIXES = ("model.diffusion_model.", "module.")
SAFETENSORS = (".safetensors", ".sft")
PICKLED = (".bin", ".pt", ".pth", ".ckpt")


class CheckpointError(ValueError):
    """A file that cannot be used; the message is one line: the file, what was found and what was expected."""


def read_state_dict(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by their released names (prefixes removed) and its metadata ({} for pickles).

    Raises:
        CheckpointError: no such file, a folder, empty, truncated, an unknown format, or a pickle with anything but
            tensors in it.
    """
    path = Path(path)
    with naming(path):
        if path.is_dir():
            raise CheckpointError("is a folder, expected a .safetensors, .bin or .pt file")
        if not path.is_file():
            raise CheckpointError("no such file")
        if path.stat().st_size == 0:
            raise CheckpointError("is empty, expected a .safetensors, .bin or .pt file; download it again")
        if path.suffix in SAFETENSORS:
            state_dict, metadata = read_safetensors(path)
        elif path.suffix in PICKLED:
            state_dict, metadata = read_pickle(path), {}
        else:
            raise CheckpointError(f"has the ending {path.suffix!r}, expected .safetensors or {', '.join(PICKLED)}")
        return strip_prefix(state_dict), metadata


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Put the file in front of every ValueError raised inside."""
    try:
        yield
    except ValueError as error:
        raise CheckpointError(f"{path}: {' '.join(str(error).split())}") from None


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"is no whole safetensors file ({one_line(error)}); download it again") from None


def read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip(path))
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower() and "unsupported" not in str(error).lower():
            raise CheckpointError(f"is no pickled state dict ({one_line(error)})") from None
        raise CheckpointError(
            "is a pickle that holds more than tensors and was not run, expected a plain state dict; "
            "ask its author for safetensors"
        ) from None
    except (
        RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error
    ) as error:  # fmt: skip
        raise CheckpointError(f"is no whole pickled state dict ({one_line(error)}); download it again") from None
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        found = f"a {type(content).__name__}"
        if isinstance(content, Mapping):
            found = f"the entries {abbreviated(map(str, content))}"
        raise CheckpointError(f"holds {found}, expected a flat state dict of names and tensors")
    return dict(content)


def is_zip(path: Path) -> bool:
    """Whether torch.save wrote it in its zip format, which can be memory-mapped."""
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def strip_prefix(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the prefix that a training wrapper or ComfyUI put in front of every name."""
    for prefix in PREFIXES:
        if state_dict and all(name.startswith(prefix) for name in state_dict):
            return strip_prefix({name.removeprefix(prefix): value for name, value in state_dict.items()})
    return state_dict


def check_values(state_dict: Mapping[str, Tensor], allow_meta: bool = False) -> None:
    """Raise CheckpointError unless every tensor is floating, holds values and all of them are finite.

    Args:
        allow_meta: let pass tensors on the meta device, which have a shape but no values.
    """
    for name, value in state_dict.items():
        if not value.is_floating_point():
            raise CheckpointError(f"{name} has dtype {value.dtype}, expected floating-point weights")
        if value.is_meta and not allow_meta:
            raise CheckpointError(f"{name} has a shape but no values, expected weights")
        if not value.is_meta and not value.float().isfinite().all():
            raise CheckpointError(f"{name} holds NaN or infinite weights, expected finite ones")


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends well, and vanishes when it does not."""
    path = Path(path)
    if not path.parent.is_dir():
        raise CheckpointError(f"{path}: the folder {path.parent} does not exist, expected one to write into")
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder, expected the name of a file to write")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_safetensors(tensors: dict[str, Tensor], path: str | os.PathLike, metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors; the file appears whole or not at all."""
    with atomic(path) as temporary:
        save_file(tensors, temporary, dict(metadata))
        temporary.chmod(0o644)  # newer safetensors make files that only their owner reads


def abbreviated(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_line(error: Exception) -> str:
    """The first line of an error's text, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
