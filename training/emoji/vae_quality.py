"""What a VAE keeps of EmojiScenes: PSNR where things are and where none is, and what is still recognized."""

from __future__ import annotations

import numpy as np
import torch

from tim_model.vae.autoencoder import VAE

from .classifier import ThingClassifier
from .drawings import Drawings
from .recognizer import name_things, recognize
from .render import render, square_of
from .scene import EmojiScene, draw_scene, satisfies

SEED = 1000  # of scenes that no training draws
PEAK = 255


def vae_quality(vae: VAE, net: ThingClassifier, drawings: Drawings, count: int) -> str:
    """Three lines on `count` new scenes: PSNR, and the shares of things and images recognized, before and after."""
    things, rest = [], []
    right = np.zeros((2, 4))  # originals and reconstructions; items, tints, styles, images
    asked = np.zeros(4)
    for scene in (draw_scene(SEED, index) for index in range(count)):
        image = render(scene, drawings)
        decoded = through(vae, image)
        error = np.square(image.astype(float) - decoded)
        shown = np.zeros(image.shape[:2], bool)
        for window in windows_of(scene):
            shown[window] = True
        things.append(error[shown].ravel())
        rest.append(error[~shown].ravel())
        tinted = sum(thing.color is not None for thing in scene.things)
        asked += [len(scene.things), tinted, len(scene.things), 1]
        right += [count_right(scene, picture, net) for picture in (image, decoded)]
    shares = [", ".join(f"{100 * share:.1f}%" for share in row) for row in right / np.maximum(asked, 1)]
    return (
        f"PSNR {psnr(things):.2f} dB in things' cells, {psnr(rest):.2f} dB elsewhere, {count} scenes\n"
        f"things, tints, styles and images recognized: {shares[0]}\n"
        f"after the VAE: {shares[1]}"
    )


@torch.no_grad()
def through(vae: VAE, image: np.ndarray) -> np.ndarray:
    """An image (H,W,3) of bytes, encoded and decoded."""
    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    decoded = vae.decode(vae.encode(x)).float()[0].permute(1, 2, 0)
    return ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


def windows_of(scene: EmojiScene) -> list[tuple[slice, slice]]:
    """Rows and columns of the square of each thing."""
    squares = (square_of(scene, thing) for thing in scene.things)
    return [np.s_[top : top + side, left : left + side] for side, (left, top) in squares]


def count_right(scene: EmojiScene, image: np.ndarray, net: ThingClassifier) -> list[int]:
    """How many items, tints and styles are recognized in the squares of things, and whether the image is accepted."""
    counts = [0, 0, 0]
    for thing, window in zip(scene.things, windows_of(scene), strict=True):
        found, _ = name_things([image[window]], [(0, 0)], net)
        for other in found:
            counts[0] += other.item == thing.item
            counts[1] += thing.color is not None and other.color == thing.color
            counts[2] += other.style == thing.style
    whole = recognize(image, net)
    return [*counts, satisfies(whole.things, whole.background, scene.requirement)]


def psnr(squared_errors: list[np.ndarray]) -> float:
    """Peak signal-to-noise ratio in dB of all squared errors together, of bytes."""
    return float(10 * np.log10(PEAK**2 / max(np.concatenate(squared_errors).mean(), 1e-9)))
