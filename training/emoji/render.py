"""Images of EmojiScenes from drawings: tinted, turned, mirrored and shifted a little."""

from __future__ import annotations

import colorsys
from random import Random

import numpy as np
from PIL import Image, ImageFilter

from .drawings import Drawings
from .scene import CELL, EmojiScene, Thing
from .things import BACKGROUNDS, COLORS, NOT_MIRRORED

FILLED = (0.78, 0.9)  # of its square, a thing's longer side
TURN = 12.0  # degrees to either side at most
MARGIN = 0.04  # of its square, around a thing
WAVER = 4  # levels by which a background differs from its name's color
SHARPEN = ImageFilter.UnsharpMask(radius=1.2, percent=120, threshold=2)  # of enlarged drawings


def render(scene: EmojiScene, drawings: Drawings) -> np.ndarray:
    """The image of a scene, bytes (H,W,3), a pure function of the arguments."""
    random = Random(f"{scene.seed} {scene.index} pictures")
    ground = tuple(level + random.randint(-WAVER, WAVER) for level in BACKGROUNDS[scene.background])
    canvas = Image.new("RGB", scene.size, tuple(min(255, level) for level in ground))
    for thing in scene.things:
        drawing = drawings[thing.style, thing.item]
        drawing = tint(drawing, thing.color) if thing.color else drawing
        side, corner = square_of(scene, thing)
        stamp = place(drawing, side, thing.item not in NOT_MIRRORED, random)
        canvas.paste(stamp, corner, stamp)
    return np.asarray(canvas)


def square_of(scene: EmojiScene, thing: Thing) -> tuple[int, tuple[int, int]]:
    """Side and upper left corner of a thing's square: its cell, or the canvas for one alone."""
    if len(scene.things) > 1:
        return CELL, (thing.column * CELL, thing.row * CELL)
    side = min(scene.size)
    return side, tuple((length - side) // 2 for length in scene.size)


def place(drawing: Image.Image, side: int, mirrored: bool, random: Random) -> Image.Image:
    """A square RGBA image of a drawing in a size, at an angle and a place by chance, all of it inside."""
    if mirrored and random.random() < 0.5:
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    wanted = side * random.uniform(*FILLED)
    angle = random.uniform(-TURN, TURN)
    # color bleeds from transparent pixels into edges unless alpha is multiplied in before
    turned = drawing.convert("RGBa").rotate(angle, Image.Resampling.BICUBIC, expand=True).convert("RGBA")
    turned = turned.crop(turned.getchannel("A").getbbox())
    scale = wanted / max(turned.size)
    size = tuple(max(1, round(length * scale)) for length in turned.size)
    scaled = turned.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    scaled = scaled.filter(SHARPEN) if scale > 1.3 else scaled
    square = Image.new("RGBA", (side, side))
    margin = round(MARGIN * side)
    square.paste(scaled, tuple(random.randint(margin, side - margin - length) for length in size))
    return square


def tint(drawing: Image.Image, color: str) -> Image.Image:
    """The drawing in shades of one color: dark stays dark, light becomes a pale tone of it."""
    hue, saturation = COLORS[color]
    red, green, blue = (np.array([colorsys.hls_to_rgb(hue, level / 255, saturation)[k] for level in range(256)])
                        for k in range(3))  # fmt: skip
    pixels = np.asarray(drawing, np.float32)
    # perceived lightness, its middle part stretched, so that most of a thing has the color itself
    light = pixels[..., :3] @ np.float32([0.299, 0.587, 0.114])
    level = np.rint(30 + 0.72 * light).astype(np.uint8)
    tinted = np.stack([table[level] * 255 for table in (red, green, blue)], axis=-1)
    return Image.fromarray(np.dstack([np.rint(tinted).astype(np.uint8), pixels[..., 3].astype(np.uint8)]), "RGBA")
