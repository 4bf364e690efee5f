"""Drawings that stand in for the emoji: a disc with a darker bar for each thing and style, in a color of its own."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

from training.emoji.classifier import CLASSES, Answer
from training.emoji.drawings import Drawings, drawing_path
from training.emoji.things import BACKGROUNDS, COLORS, STYLES, THINGS

ROOT = Path(__file__).parents[3]
FETCHED = ROOT / "runs" / "emoji" / "drawings"  # where the recipes expect the real drawings


def own_color(thing: str) -> tuple[int, int, int]:
    """Different for each thing, and far from every background: 24 hues of 5 kinds."""
    kind, hue = divmod(list(THINGS).index(thing), 24)
    light, saturation = ((0.3, 1.0), (0.5, 1.0), (0.4, 0.5), (0.2, 0.7), (0.62, 0.8))[kind]
    return tuple(round(255 * level) for level in colorsys.hls_to_rgb(hue / 24, light, saturation))


def stand_in(thing: str) -> Image.Image:
    image = Image.new("RGBA", (40, 40))
    ImageDraw.Draw(image).ellipse((0, 0, 39, 39), fill=(*own_color(thing), 255))
    return image


def stand_ins() -> Drawings:
    return {(style, thing): stand_in(thing) for style in STYLES for thing in THINGS}


def write_stand_ins(folder: Path) -> Path:
    for (style, thing), image in stand_ins().items():
        path = drawing_path(folder, style, thing)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return folder


class NearestColor(nn.Module):
    """A classifier of stand-ins in their own colors, by the color in the middle of what differs from the corner."""

    def __init__(self):
        super().__init__()
        self.class_names = CLASSES
        self.item = nn.Linear(3, len(CLASSES))
        self.colors = torch.tensor([own_color(thing) for thing in THINGS]) / 127.5 - 1

    def forward(self, squares: torch.Tensor) -> Answer:
        logits = torch.full((len(squares), len(CLASSES)), -9.0)
        means = torch.zeros(len(squares), 3)
        for k, square in enumerate(squares):
            pixels = square.flatten(1).T
            drawn = (pixels - pixels[0]).abs().amax(dim=1) > 0.2
            if drawn.sum() < 20:
                logits[k, len(THINGS)] = 1  # nothing
                continue
            means[k] = pixels[drawn].median(dim=0).values
            logits[k, : len(THINGS)] = -(self.colors - means[k]).square().sum(dim=1)
            rows, columns = drawn.view(64, 64).nonzero().T
            y, x = (rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2
            middle = drawn.view(64, 64)[y - 6 : y + 6, x - 6 : x + 6].float().mean()
            logits[k, len(THINGS) + 1] = 1 if middle < 0.95 else -9  # several: between discs there is a gap
        rest = torch.zeros(len(squares), len(COLORS)), torch.zeros(len(squares), len(STYLES))
        return Answer(logits, *rest, means)


def is_background(image: np.ndarray, name: str, tolerance: int = 6) -> np.ndarray:
    """Which pixels (H,W) have the color of a background."""
    return (np.abs(image.astype(int) - BACKGROUNDS[name]) <= tolerance).all(axis=2)
