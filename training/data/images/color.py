"""Converts color profiles (ICC) to sRGB, like viewers with color management."""

from __future__ import annotations

from functools import cache, lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE = 2**24  # bytes; the tables of printers have 3 million
SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # a profile's color space -> the mode that it describes
ROUNDING = 1  # levels by which the conversion from sRGB to sRGB may be off


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """8-bit RGB in sRGB of an image without transparency.

    A profile that is damaged, or describes other channels than the image has, is ignored, as viewers do. Images with
    sRGB's own profile keep their values.
    """
    mode = {"L": "L", "1": "L", "CMYK": "CMYK", "LAB": "LAB"}.get(image.mode, "RGB")
    if mode == "LAB":
        return ImageCms.applyTransform(image, transform_to_srgb(ImageCms.createProfile("LAB"), mode))
    try:
        source = read_profile(profile, mode)
        if source is None or mode == "RGB" and is_srgb(profile):
            return image.convert("RGB")
        return ImageCms.applyTransform(image.convert(mode), transform_to_srgb(source, mode))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image.convert("RGB")


def read_profile(content: bytes | None, mode: str) -> ImageCms.ImageCmsProfile | None:
    """The profile in a file's bytes; None where there is none, or it describes another mode."""
    if not content or len(content) > MAX_PROFILE:
        return None
    profile = ImageCms.ImageCmsProfile(BytesIO(content))
    return profile if SPACES.get(profile.profile.xcolor_space.strip()) == mode else None


def transform_to_srgb(source: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    """The conversion from `mode` to RGB, with black point compensation."""
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    return ImageCms.buildTransform(source, srgb(), mode, "RGB", intent, flags)


@cache
def srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@lru_cache(maxsize=32)  # images of a camera share a few profiles
def is_srgb(content: bytes) -> bool:
    """Whether an RGB profile changes no color except by rounding, so that it is sRGB under any name."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    grays = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    colors = np.concatenate([cube, grays])[None]
    transform = transform_to_srgb(read_profile(content, "RGB"), "RGB")
    found = np.asarray(ImageCms.applyTransform(Image.fromarray(colors), transform))
    return bool(np.abs(found.astype(int) - colors).max() <= ROUNDING)
