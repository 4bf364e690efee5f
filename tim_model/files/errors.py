"""Errors about files, each in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager


class CheckpointError(ValueError):
    """A file that cannot be used; the message is one line: the file, what was found and what was expected."""


@contextmanager
def prefix_errors(path: str | os.PathLike) -> Iterator[None]:
    """Put the file name before every ValueError raised inside, and convert read errors of the system."""
    try:
        yield
    except ValueError as error:
        raise CheckpointError(f"{path}: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {unreadable(error)}") from None


def unreadable(error: OSError) -> str:
    """The system's reason why a file cannot be read."""
    advice = "; give yourself the right to read it" if isinstance(error, PermissionError) else ""
    return f"cannot be read ({error.strerror or one_line(error)}){advice}"


def parse_json(text: str | bytes) -> object:
    """The value of a JSON text; CheckpointError if it is not JSON, with a message that follows the file name."""
    try:
        return json.loads(text)
    except RecursionError:
        raise CheckpointError("is JSON that is nested too deeply") from None
    except ValueError as error:
        raise CheckpointError(f"is no JSON ({one_line(error)}); download it again") from None


def metadata_json(metadata: Mapping[str, str], key: str, default: list | dict) -> list | dict:
    """The JSON under `key` in a file's metadata, of the type of `default`, which is returned if there is none."""
    if key not in metadata:
        return default
    try:
        value = parse_json(metadata[key])
    except CheckpointError:
        value = None
    if not isinstance(value, type(default)):
        raise CheckpointError(f"has metadata {key!r} that is no JSON {type(default).__name__}: {metadata[key][:80]!r}")
    return value


def abbreviated(names: Iterable[str], most: int = 3) -> str:
    """The first few names, each on one line, and how many more there are."""
    names = [" ".join(name.split()) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_line(error: Exception) -> str:
    """The first line of an error's text, or its type if it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
