"""The JSON beside a folder of images: what makes them, so that a later run adds none of other settings."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

from ..files.errors import CheckpointError, parse_json, prefix_errors
from ..files.tensor_files import write_text
from .prompts import Prompt

BLOCK, BLOCKS = 2**16, 64  # bytes, and how many of them say which file it is


def settings_path(folder: Path) -> Path:
    """Beside the folder, in which evaluators expect nothing but images."""
    return folder.with_name(f"{folder.name}.json")


def check_settings(folder: Path, settings: Mapping[str, object], run: Mapping[str, object]) -> None:
    """Write the settings of a new folder; of one that has some, make sure that they are the same.

    Args:
        settings: what the images depend on.
        run: what else is good to know, and may differ.

    Raises:
        ValueError: other settings, or images without any; names the first that differs.
    """
    path = settings_path(folder)
    occupied = folder.is_dir() and any(folder.iterdir())  # first: another process may begin with it in between
    if path.is_file():
        with prefix_errors(path):
            content = parse_json(path.read_bytes())
            found = content.get("settings") if isinstance(content, dict) else None
            if not isinstance(found, dict):
                raise CheckpointError("holds no settings of images: expected a file of this command, or another --out")
        compare(path, found, json.loads(json.dumps(settings)))
    elif occupied:
        raise ValueError(f"{folder}: holds files, but {path.name} beside it is missing: expected an empty folder")
    write_text(path, json.dumps({"settings": settings, "run": run}, indent=2, ensure_ascii=False) + "\n")


def compare(path: Path, found: Mapping[str, object], settings: Mapping[str, object]) -> None:
    for name in {**found, **settings}:
        if found.get(name) != settings.get(name):
            both = f"{name} {found.get(name)!r}, this run has {settings.get(name)!r}"
            raise ValueError(f"{path}: the images there are of {both}: expected the same, or another --out")


def prompts_digest(prompts: Sequence[Prompt]) -> str:
    """What prompts a list holds, in 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps([astuple(prompt) for prompt in prompts]).encode()).hexdigest()[:16]


def file_digest(path: str | os.PathLike) -> str:
    """Which file, or folder of files, it is: 16 hexadecimal digits of sizes and of up to 64 blocks of each file.

    Training changes every tensor, so that blocks show which weights a file holds without reading gigabytes.
    """
    path, digest = Path(path), hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file():
            size = file.stat().st_size
            digest.update(f"{size} ".encode())
            with open(file, "rb") as content:
                for k in range(min(BLOCKS, -(-size // BLOCK))):
                    content.seek(k * max(BLOCK, size // BLOCKS))
                    digest.update(content.read(BLOCK))
    return digest.hexdigest()[:16]
