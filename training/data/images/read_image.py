"""Image files of every kind are read as sRGB images and tensors; an unusable file is one ValueError."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tim_model.files.tensor_files import one_line

from .color import to_srgb
from .kinds import FORMATS, UNMARKED, reason_not_read

READING = 2  # raise it if the pixels of a file change, so that caches are recomputed
READER = f"{READING}, Pillow {PIL.__version__}"
DAMAGED = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError,
    RuntimeError, struct.error, zlib.error,
)  # fmt: skip
MAX_PIXELS = 178_956_970  # Pillow's own limit
MAX_BYTES = 2**31  # of a file, as some readers load it whole; the largest image with 16 bits has 1.1 GB
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # 16 bits, or more, of gray
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The first frame of an image file as 8-bit sRGB, upright, with transparency on white.

    Color profiles (ICC) are converted. The format follows from the content, not from the ending.

    Raises:
        ValueError: a broken image, floating-point pixels, or more than `max_pixels`; without the file name.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    if size == 0:
        raise ValueError("is empty")
    if size > MAX_BYTES:
        raise ValueError(f"is huge: {size / 1e9:.1f} GB, expected at most {MAX_BYTES / 1e9:.1f}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of decompression bombs, checked below, and of odd EXIF
        try:
            with Image.open(path, formats=known_formats(path.suffix.lower())) as image:
                check_pixels(*image.size, max_pixels)
                image.load()
                check_pixels(*image.size, max_pixels)  # an icon may hold a larger image than its header says
                return to_rgb(upright(image))
        except Image.DecompressionBombError:
            raise ValueError(f"is huge: expected at most {max_pixels / 1e6:.0f} megapixels") from None
        except Image.UnidentifiedImageError:
            raise ValueError(reason_not_read(path)) from None
        except PictureError as error:
            raise ValueError(str(error)) from None
        except MemoryError:
            raise ValueError("does not fit into memory") from None
        except DAMAGED as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(f"is broken ({one_line(error)})") from None


class PictureError(ValueError):
    """An intact image that cannot be used."""


def known_formats(ending: str) -> list[str]:
    """The formats to try: those of `FORMATS` that this Pillow reads; formats without a signature only by their ending.

    Other formats are never tried, since some start programs (EPS).
    """
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN and (name not in UNMARKED or ending in FORMATS[name])]


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise PictureError(f"is huge: {width}x{height}, expected at most {max_pixels / 1e6:.0f} megapixels")


def upright(image: Image.Image) -> Image.Image:
    """The image rotated and mirrored as its EXIF says; damaged EXIF is ignored.

    Not by Pillow's exif_transpose, which rewrites EXIF and fails on unusual tags.
    """
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION))
    except DAMAGED:
        turn = None
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit sRGB of any mode: 16-bit gray is scaled down, transparency goes onto white, profiles are converted."""
    if image.mode == "F":
        raise PictureError("holds floating-point pixels, expected 8 or 16 bits")
    profile = image.info.get("icc_profile")
    if image.mode in DEEP_MODES:
        image = Image.fromarray(gray_8_bit(np.asarray(image), image.mode != "I"))
    if not image.has_transparency_data:
        return to_srgb(image, profile)
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    gray = image.mode in ("L", "LA", "La", "1")
    color = to_srgb(rgba.getchannel("R") if gray else rgba.convert("RGB"), profile)
    white = Image.new("RGB", color.size, "white")
    white.paste(color, mask=rgba.getchannel("A"))
    return white


def gray_8_bit(values: np.ndarray, deep: bool) -> np.ndarray:
    """Gray levels of 16 bits as 8 bits; 32-bit ones that fit in 8 bits stay as they are."""
    values = values.clip(0, 65535).astype(np.uint32)
    deep = deep or values.max() > 255
    return ((values + 128) // 257 if deep else values).astype(np.uint8)


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """The image at exactly that size: scaled (bicubic) to cover it, then cropped at the center."""
    return image if image.size == (width, height) else ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)


def to_tensor(image: Image.Image) -> Tensor:
    """Pixels (3,H,W), float32 in [-1, 1], of an RGB image."""
    array = np.array(image, dtype=np.float32) / 127.5 - 1
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()
