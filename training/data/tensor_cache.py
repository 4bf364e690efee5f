"""A disk cache of latents and text features, keyed by the content that they depend on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from tim_model.files.tensor_files import write_safetensors, writing


class TensorCache:
    """Tensors on disk, one file each, under a key of everything that they depend on."""

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
        """Write a tensor atomically."""
        with writing(self.path(key)):
            write_safetensors({"value": value.detach().cpu().contiguous()}, self.path(key), {})


def cache_key(*parts: object) -> str:
    """The key of a tensor that depends only on `parts`."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:32]


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def hash_model(path: Path) -> str:
    """SHA-256 of a model file, or of all files in a model's folder."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    return cache_key(*(f"{p.name if path.is_dir() else ''} {hash_file(p)}" for p in files))
