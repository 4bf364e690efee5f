"""Reads idx files, the format of MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

MAX_VALUES = 2**31  # a thousand times those of MNIST
PARTS = {"train": "train", "test": "t10k"}  # as the files are named


def read_split(folder: str | Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The gray images (N,28,28) and labels (N,) of Fashion-MNIST, bytes.

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
        raise ValueError(f"{folder}: images {images.shape} and {len(labels)} labels, expected Fashion-MNIST's")
    return images, labels


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes of an idx file, packed or not, with that many dimensions."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            magic, shape = file.read(4), np.frombuffer(file.read(4 * dimensions), ">u4", dimensions)
            count = math.prod(shape.tolist())
            # read at most one byte more than the header says: a packed file may expand to a thousand times its size
            values = np.frombuffer(file.read(count + 1) if count <= MAX_VALUES else b"", np.uint8)
        if magic != bytes([0, 0, 8, dimensions]) or len(values) != count:
            raise ValueError(f"header {magic.hex()}, shape {shape.tolist()}, {len(values)} values")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"{path}: is no whole idx file of {dimensions} dimensions ({error})") from None
    return values.reshape(shape)
