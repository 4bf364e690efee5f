"""The array file that ADM's evaluator reads: arr_0, bytes (N,H,W,3), and arr_1, the classes (N,)."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..files.tensor_files import atomic, writing
from .prompts import Size


def write_array(files: Sequence[Path], labels: Sequence[int], size: Size, path: Path) -> None:
    """Write images as an .npz, one after the other, so that no more than one is in memory.

    Args:
        files: the images in their order.
        labels: the class of each.
        size: (width, height) of all.

    Raises:
        CheckpointError: it cannot be written.
        ValueError: an image of another size.
    """
    with writing(path), atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as array:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), size[1], size[0], 3)}
            np.lib.format.write_array_header_1_0(array, header)
            for file in files:
                with Image.open(file) as image:
                    if image.size != size:
                        raise ValueError(f"{file}: is {image.size[0]}x{image.size[1]}, expected {size[0]}x{size[1]}")
                    array.write(image.convert("RGB").tobytes())
        with archive.open("arr_1.npy", "w") as array:
            np.lib.format.write_array(array, np.asarray(labels, np.int64))
