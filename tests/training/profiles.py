"""Color profiles (ICC version 2) made from numbers, and pictures that carry them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image

D50 = (0.9642, 1.0, 0.8249)
# columns are the red, green and blue primaries, adapted to D50
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SWAPPED = SRGB[:, ::-1]  # what is red in the file is blue
CURVE = np.linspace(0, 1, 1024)
SRGB_CURVE = np.where(CURVE <= 0.04045, CURVE / 12.92, ((CURVE + 0.055) / 1.055) ** 2.4)  # level -> light


def rgb_profile(primaries: np.ndarray, curve: np.ndarray = SRGB_CURVE) -> bytes:
    """A display's profile."""
    tags = {f"{name}XYZ": xyz(column) for name, column in zip("rgb", primaries.T, strict=True)}
    tags |= {f"{name}TRC": table(curve) for name in "rgb"}
    return profile("RGB ", tags)


def gray_profile(gamma: float) -> bytes:
    return profile("GRAY", {"kTRC": table(CURVE**gamma)})


def xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def table(values: np.ndarray) -> bytes:
    content = struct.pack(f">I{len(values)}H", len(values), *(values * 65535).round().astype(int))
    return b"curv\0\0\0\0" + content + bytes(-len(content) % 4)


def profile(space: str, tags: dict[str, bytes]) -> bytes:
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"made\0" + bytes(78)
    tags = {"desc": text + bytes(-len(text) % 4), "cprt": b"text\0\0\0\0none\0\0\0\0", "wtpt": xyz(D50), **tags}
    place, entries = 128 + 4 + 12 * len(tags), b""
    for name, content in tags.items():
        entries += struct.pack(">4sII", name.encode(), place, len(content))
        place += len(content)
    header = struct.pack(
        ">I4sI4s4s4s12s4s", place, b"lcms", 0x02400000, b"mntr", space.encode(), b"XYZ ", bytes(12), b"acsp"
    )
    header += bytes(28) + xyz(D50)[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + b"".join(tags.values())


def with_profile(path: Path, color: tuple[int, ...] | int, content: bytes, mode: str = "RGB") -> Path:
    """A picture of one color with a profile."""
    Image.new(mode, (8, 8), color).save(path, icc_profile=content)
    return path
