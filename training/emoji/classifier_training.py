"""Training of the classifier on squares of crowded scenes, softened and noisy as samples and decoded latents are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .classifier import CLASSES, NOTHING, SEVERAL, SIDE, ThingClassifier, classify
from .drawings import Drawings
from .render import render
from .scene import CELL, EmojiScene, crowded_scene
from .things import COLORS, STYLES

BATCH = 128
SCENES, MEASURED = 12_000, 1000  # crowded scenes for training and for measuring
UNKNOWN = -100  # the color of a thing that is not tinted, and all of a square without a thing


def make_classifier(drawings: Drawings, leave_out: str | None = None) -> tuple[ThingClassifier, str]:
    """A classifier, and a line on how much it recognizes in new scenes.

    Args:
        leave_out: a style whose drawings it is not trained on; the line is about these alone.
    """
    trained = [style for style in STYLES if style != leave_out]
    net = train_classifier(make_squares(drawings, SCENES, 1, trained))
    measured = [leave_out] if leave_out else STYLES
    item, color, style = shares_right(net, with_things(make_squares(drawings, MEASURED, 2, measured)))
    what = (
        f"drawings of the style {leave_out}, which it has not seen" if leave_out else "new scenes of drawings it knows"
    )
    return net, f"{item:.1%} of the things, {color:.1%} of the colors, {style:.1%} of the styles in {what}"


class Squares(NamedTuple):
    """Bytes (N,3,64,64), and labels (N,3): places in `CLASSES`, `COLORS` and `STYLES`, or `UNKNOWN`."""

    pixels: Tensor
    labels: Tensor


def make_squares(drawings: Drawings, count: int, seed: int, styles: Sequence[str] = STYLES) -> Squares:
    """The squares of `count` crowded scenes; of things in other styles than `styles` there are none."""
    pixels, labels = [], []
    for index in range(count):
        scene = crowded_scene(seed, index)
        for square, label in squares_of(scene, render(scene, drawings)):
            if label[2] == UNKNOWN or STYLES[label[2]] in styles:
                pixels.append(square)
                labels.append(label)
    return Squares(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels))


def with_things(squares: Squares) -> Squares:
    """Those that show a single thing."""
    kept = squares.labels[:, 2] != UNKNOWN
    return Squares(squares.pixels[kept], squares.labels[kept])


def squares_of(scene: EmojiScene, image: np.ndarray) -> list[tuple[np.ndarray, tuple[int, int, int]]]:
    """The squares of a crowded scene: each thing, and at times a window across things or of nothing."""
    random = Random(f"{scene.seed} {scene.index} squares")
    several = (CLASSES.index(SEVERAL), UNKNOWN, UNKNOWN)
    if len(scene.things) == 1:
        found = [(resized(image), label_of(scene.things[0]))]
        left, top = random.choice([(0, 0), (CELL, 0), (0, CELL), (CELL, CELL)])
        part = image[top : top + CELL, left : left + CELL]
        return [*found, (part, several)] if random.random() < 0.3 else found
    cells = [(image[t.row * CELL :, t.column * CELL :][:CELL, :CELL], label_of(t)) for t in scene.things]
    across, along = random.randint(CELL // 3, 2 * CELL // 3), random.choice([0, CELL])
    left, top = random.choice([(across, along), (along, across), (across, across)])
    corner = image[0, 0]
    some = image.copy()
    for thing in random.sample(scene.things, random.randint(0, 2)):
        some[thing.row * CELL :, thing.column * CELL :][:CELL, :CELL] = corner
    others = [(image[top : top + CELL, left : left + CELL], several), (resized(some), several)]
    empty = np.broadcast_to(corner, (CELL, CELL, 3)), (CLASSES.index(NOTHING), UNKNOWN, UNKNOWN)
    return [*cells, *(other for other in (*others, empty) if random.random() < 0.3)]


def label_of(thing) -> tuple[int, int, int]:
    color = list(COLORS).index(thing.color) if thing.color else UNKNOWN
    return CLASSES.index(thing.item), color, STYLES.index(thing.style)


def resized(image: np.ndarray) -> np.ndarray:
    """A square image at the side of a judged square."""
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX))


def train_classifier(
    squares: Squares, steps: int = 1500, seed: int = 0, report: Callable[[str], None] = print
) -> ThingClassifier:
    """A trained classifier; squares are shifted, softened, and get noise at random."""
    torch.manual_seed(seed)
    net = ThingClassifier()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for step in range(steps):
        rows = torch.randint(len(squares.pixels), (BATCH,))
        answer = net(augment(squares.pixels[rows] / 127.5 - 1))
        labels = squares.labels[rows].T
        smoothing = (0.05, 0.0, 0.0)
        losses = [
            F.cross_entropy(logits, label, label_smoothing=s, reduction="sum", ignore_index=UNKNOWN) / BATCH
            for logits, label, s in zip(answer[:3], labels, smoothing, strict=True)
        ]
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            report(f"step {step + 1}/{steps}  " + "  ".join(f"{float(loss):.3f}" for loss in losses))
    return net.train(False).requires_grad_(False)


def augment(squares: Tensor) -> Tensor:
    """Each square shifted by up to 4 pixels, softened and with noise to some degree."""
    count = len(squares)
    padded = F.pad(squares, [4] * 4, mode="replicate")
    corners = torch.randint(9, (count, 2)).tolist()
    moved = torch.stack([s[:, y : y + SIDE, x : x + SIDE] for s, (y, x) in zip(padded, corners, strict=True)])
    softness = (2 * torch.rand(count, 1, 1, 1) - 1).clamp(min=0)
    moved = torch.lerp(moved, soften(moved), softness)
    return moved + 0.08 * torch.rand(count, 1, 1, 1) * torch.randn_like(moved)


def soften(squares: Tensor) -> Tensor:
    """Squares (B,3,H,W) blurred by a standard deviation of one and a half pixels."""
    row = torch.tensor([1.0, 6.0, 15.0, 20.0, 15.0, 6.0, 1.0]) / 64
    kernel = torch.outer(row, row).expand(3, 1, 7, 7)
    return F.conv2d(F.pad(squares, [3] * 4, mode="replicate"), kernel, groups=3)


def shares_right(net: ThingClassifier, squares: Squares) -> tuple[float, float, float]:
    """Shares of items, colors and styles that are recognized, of the squares that have one."""
    answer = classify(net, squares.pixels)
    shares = []
    for logits, label in zip(answer[:3], squares.labels.T, strict=True):
        known = label != UNKNOWN
        shares.append(float((logits.argmax(dim=1) == label)[known].float().mean()))
    return tuple(shares)
