"""training.emoji.vae_quality: a VAE that keeps all, one that keeps nothing, and PSNR by its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from training.emoji.scene import CELL, draw_scene
from training.emoji.vae_quality import psnr, through, vae_quality, windows_of

from .stand_ins import NearestColor, stand_ins


class Changing(nn.Module):
    """A VAE whose latents are the image, changed by a function."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def encode(self, x):
        return x

    def decode(self, z):
        return self.change(z)


def test_what_is_kept_is_recognized_as_before():
    lines = vae_quality(Changing(lambda z: z), NearestColor(), stand_ins(), 12).splitlines()
    assert len(lines) == 3 and "12 scenes" in lines[0]
    shares = [line.partition(": ")[2] for line in lines[1:]]
    assert shares[0] == shares[1]


def test_of_a_blank_image_nothing_is_recognized():
    lines = vae_quality(Changing(torch.zeros_like), NearestColor(), stand_ins(), 6).splitlines()
    assert lines[2].endswith("0.0%, 0.0%, 0.0%, 0.0%")


def test_bytes_come_back_as_they_were():
    image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    np.testing.assert_array_equal(through(Changing(lambda z: z), image), image)
    assert (through(Changing(lambda z: z + 9), image) == 255).all()


def test_windows_are_cells_or_the_largest_square():
    for scene in (draw_scene(0, index) for index in range(40)):
        sides = {(w[0].stop - w[0].start, w[1].stop - w[1].start) for w in windows_of(scene)}
        side = min(scene.size) if len(scene.things) == 1 else CELL
        assert sides == {(side, side)}


def test_psnr():
    assert psnr([np.full(8, 25.5**2)]) == pytest.approx(20)
    assert psnr([np.zeros(4), np.full(4, 2 * 25.5**2)]) == pytest.approx(20)
