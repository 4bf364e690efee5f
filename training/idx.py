"""The idx files in which MNIST and Fashion-MNIST are published."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

PARTS = {"train": "train", "test": "t10k"}  # as the files are named


def read_split(folder: str | Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The gray pictures (N,28,28) and labels (N,) of Fashion-MNIST, bytes.

    Args:
        folder: with the four files, packed (.gz) or not.
        split: "train" or "test".

    Raises:
        ValueError: a file is missing or damaged, or the files are not Fashion-MNIST's.
    """
    names = f"{PARTS[split]}-images-idx3-ubyte", f"{PARTS[split]}-labels-idx1-ubyte"
    paths = [path if path.is_file() else path.with_name(f"{path.name}.gz") for path in (Path(folder, n) for n in names)]
    images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if images.shape != (len(labels), 28, 28) or not len(labels) or labels.max() > 9:
        raise ValueError(f"{folder}: pictures {images.shape} and {len(labels)} labels, expected Fashion-MNIST's")
    return images, labels


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes of an idx file, packed or not, with that many dimensions."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        shape = np.frombuffer(content, ">u4", dimensions, offset=4)
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
        if content[:4] != bytes([0, 0, 8, dimensions]) or len(values) != np.prod(shape, dtype=np.int64):
            raise ValueError(f"header {content[:4].hex()}, shape {shape.tolist()}, {len(values)} values")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"{path}: is no whole idx file of {dimensions} dimensions ({error})") from None
    return values.reshape(shape)
