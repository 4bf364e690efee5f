"""Image files of every kind to RGB pictures and tensors; a file that cannot be used is one ValueError."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tim_model.files import one_line

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error)
MAX_PIXELS = 178_956_970  # beyond which Pillow refuses
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # 16 bits, or more, of gray


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The first frame of an image file as 8-bit RGB, upright, with transparency laid onto white.

    Raises:
        ValueError: no whole image, one of another kind of numbers, or more than `max_pixels`; without the file's name.
    """
    if path.stat().st_size == 0:
        raise ValueError("is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of decompression bombs, checked below, and of odd EXIF
        try:
            with Image.open(path) as image:
                check_pixels(*image.size, max_pixels)
                return to_rgb(ImageOps.exif_transpose(image))
        except Image.DecompressionBombError:
            raise ValueError(f"is huge: expected at most {max_pixels / 1e6:.0f} megapixels") from None
        except Image.UnidentifiedImageError:
            raise ValueError("is no image that Pillow reads") from None
        except PictureError as error:
            raise ValueError(str(error)) from None
        except DAMAGED as error:
            raise ValueError(f"is broken ({one_line(error)})") from None


class PictureError(ValueError):
    """A whole image that cannot be used."""


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise PictureError(f"is huge: {width}x{height}, expected at most {max_pixels / 1e6:.0f} megapixels")


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode: 16-bit gray is scaled down, transparency goes onto white, CMYK is converted."""
    if image.mode in DEEP_MODES:
        return Image.fromarray(gray_8_bit(np.asarray(image), image.mode != "I")).convert("RGB")
    if image.mode == "F":
        raise PictureError("holds floating-point pixels, expected 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def gray_8_bit(values: np.ndarray, deep: bool) -> np.ndarray:
    """Gray levels of 16 bits as 8 bits; 32-bit ones that fit in 8 bits stay as they are."""
    values = values.astype(np.int64)
    deep = deep or values.max() > 255
    return np.clip((values + 128) // 257 if deep else values, 0, 255).astype(np.uint8)


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of a picture at exactly that size: scaled (bicubic) to cover it, then cropped."""
    return image if image.size == (width, height) else ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)


def to_tensor(image: Image.Image) -> Tensor:
    """Pixels (3,H,W), float32 in [-1, 1], of an RGB picture."""
    array = np.array(image, dtype=np.float32) / 127.5 - 1
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()
