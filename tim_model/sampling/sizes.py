"""Image sizes: from an aspect and an area to pixels that a model can make. 1 megapixel is 1024x1024 pixels."""

from __future__ import annotations

import math

MEGAPIXEL = 1024 * 1024
MIN_MEGAPIXELS, MAX_MEGAPIXELS = 0.06, 16.8
MAX_SIDE = 8192  # pixels
# The largest area and the widest aspect (either way) that images of TiM are published for.
KNOWN_PIXELS, KNOWN_ASPECT = 4096 * 4096, 5 / 2
# Times the native area from which images fail. Published models draw more than their native size; training here keeps
# every image within the area of the resolution that its files state.
FAR_BEYOND, FAR_BEYOND_TRAINED = 4.0, 1.5


def parse_aspect(text: str) -> float:
    """Width over height from "16:9" or "1.78".

    Raises:
        ValueError: anything else, or numbers that are not positive and finite.
    """
    try:
        width, height = map(float, text.split(":")) if ":" in text else (float(text), 1.0)
    except ValueError:
        width = height = math.nan
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(f'aspect {text!r}: expected width:height such as "16:9", or one number such as "1.78"')
    return width / height


ASPECTS: dict[str, float] = {
    name: parse_aspect(name)
    for name in ("1:1", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16", "21:9", "9:21", "5:2", "2:5")
}


def choose_size(aspect: float, megapixels: float, unit: int) -> tuple[int, int]:
    """(width, height) in pixels of about that aspect and area.

    Of all multiples of `unit` the nearest to the ideal point (sqrt(area * aspect), sqrt(area / aspect)): each side is
    off by half a unit at most, so the area of n x m ideal tokens by a share of 1/(2n) + 1/(2m) + 1/(4nm) at most.

    Args:
        aspect: width over height.
        megapixels: of 1024x1024 pixels each, so that 1 makes 1024x1024 and 16 makes 4096x4096.
        unit: pixels of a token and side, VAE ratio times patch size.

    Raises:
        ValueError: megapixels outside of 0.06 to 16.8, an aspect that is not positive and finite, or a side above
            8192 pixels or below half a token.
    """
    if not 0 < aspect < math.inf:
        raise ValueError(f"aspect {aspect}: expected width over height, a positive number such as 1.78")
    if not MIN_MEGAPIXELS <= megapixels <= MAX_MEGAPIXELS:
        raise ValueError(
            f"{megapixels:.3g} megapixels: expected {MIN_MEGAPIXELS} to {MAX_MEGAPIXELS}; give the sides of other sizes"
        )
    area = megapixels * MEGAPIXEL
    return size_of(math.sqrt(area * aspect), math.sqrt(area / aspect), unit)


def size_of(width: float, height: float, unit: int) -> tuple[int, int]:
    """The (width, height) in multiples of `unit` that is nearest to a size, such as that of an image.

    By the rule of `choose_size`, each side by itself; that may be up to half a unit larger than the image, which is
    meant to be resized to it.

    Raises:
        ValueError: a side above 8192 pixels or below half a unit, or a unit that is no positive number of pixels.
    """
    if not 1 <= unit <= MAX_SIDE:
        raise ValueError(f"unit {unit}: expected the pixels of a token, 1 to {MAX_SIDE}")
    if not (unit / 2 <= width <= MAX_SIDE and unit / 2 <= height <= MAX_SIDE):
        raise ValueError(
            f"size {width:g}x{height:g}: expected sides of {unit} to {MAX_SIDE} pixels; "
            "change the size, or take an aspect nearer to 1:1"
        )
    largest = MAX_SIDE // unit * unit
    return min(nearest_multiple(width, unit), largest), min(nearest_multiple(height, unit), largest)


def nearest_multiple(side: float, unit: int) -> int:
    """The positive multiple of `unit` that is nearest to a side in pixels."""
    return max(1, round(side / unit)) * unit


def describe_size(width: int, height: int, unit: int) -> str:
    """A size in words, such as "4096x4096, 16.0 MP, 16384 tokens"."""
    megapixels = width * height / MEGAPIXEL
    tokens = (width // unit) * (height // unit)
    return f"{width}x{height}, {megapixels:.{1 if megapixels >= 1 else 2}f} MP, {tokens} tokens"


def size_warning(width: int, height: int, unit: int) -> str:
    """What to expect of a size beyond the published ones, in one line; "" within them.

    Half a unit of each side is left to rounding, so no size that `choose_size` makes of 5:2 or of 16 megapixels warns.
    """
    long, short = max(width, height), min(width, height)
    beyond = []
    if (width - unit / 2) * (height - unit / 2) > KNOWN_PIXELS:
        beyond.append("more than 4096x4096 pixels")
    if long - unit / 2 > KNOWN_ASPECT * (short + unit / 2):
        beyond.append("an aspect beyond 2:5 to 5:2")
    if not beyond:
        return ""
    reasons = " and ".join(beyond)
    return f"{width}x{height} is {reasons}, beyond the published sizes of TiM: expect repeated or broken shapes"


def native_warning(width: int, height: int, native: tuple[int, int], trained: bool = False) -> str:
    """What to expect of a size far beyond the native (width, height) of a model, in one line; "" within it.

    Args:
        trained: whether no image of training had a larger area than the native size.
    """
    times = width * height / (native[0] * native[1])
    if times < (FAR_BEYOND_TRAINED if trained else FAR_BEYOND):
        return ""
    return (
        f"{width}x{height} pixels are far beyond this model's {native[0]}x{native[1]}, {times:.3g} times the area: "
        "expect repeated or broken shapes"
    )
