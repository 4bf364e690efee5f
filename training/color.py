"""Color profiles (ICC) to sRGB, as programs with color management show pictures."""

from __future__ import annotations

from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE = 2**24  # bytes; the tables of printers have 3 million
SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # a profile's color space -> the mode that it describes
ROUNDING = 1  # levels by which the conversion from sRGB to sRGB may be off


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """8-bit RGB in sRGB of a picture without transparency.

    A profile that is damaged, or made for other channels than the picture has, is ignored, as viewers do. Pictures with
    sRGB's own profile keep their values.
    """
    source = ImageCms.createProfile("LAB") if image.mode == "LAB" else read_profile(profile)
    if source is None:
        return image.convert("RGB")
    mode = image.mode if image.mode in ("L", "CMYK", "LAB") else "L" if image.mode == "1" else "RGB"
    try:
        if mode != "LAB" and SPACES.get(source.profile.xcolor_space.strip()) != mode:
            return image.convert("RGB")
        transform = ImageCms.buildTransform(
            source, srgb(), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        )
        if mode == "RGB" and changes_nothing(transform):
            return image.convert("RGB")
        return ImageCms.applyTransform(image.convert(mode), transform)
    except (ImageCms.PyCMSError, OSError, ValueError):
        if mode == "LAB":
            raise
        return image.convert("RGB")


def read_profile(content: bytes | None) -> ImageCms.ImageCmsProfile | None:
    """The profile in a file's bytes; None where there is none or it is damaged."""
    if not content or len(content) > MAX_PROFILE:
        return None
    try:
        return ImageCms.ImageCmsProfile(BytesIO(content))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@cache
def srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform from RGB to RGB leaves all colors as they are, but for rounding: sRGB under any name."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    grays = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    colors = np.concatenate([cube, grays])[None]
    found = np.asarray(ImageCms.applyTransform(Image.fromarray(colors), transform))
    return bool(np.abs(found.astype(int) - colors).max() <= ROUNDING)
