"""training.emoji.recognizer: sees in drawn scenes what was drawn, also where images are soft or noisy."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from training.emoji.captions import NAMES_COLORS, TASKS
from training.emoji.recognizer import recognize
from training.emoji.render import render
from training.emoji.scene import draw_scene
from training.emoji.things import BACKGROUNDS

from .stand_ins import NearestColor, stand_ins

DRAWINGS = stand_ins()
PLAIN = [draw_scene(0, k, task=task) for task in TASKS if task not in NAMES_COLORS for k in range(30)]


def places(things):
    return [(thing.item, thing.column, thing.row) for thing in things]


def found_places(scene, image):
    sight = recognize(image, NearestColor())
    assert sight.background == scene.background
    assert sight.features.shape == (len(sight.things), 3)
    return places(sight.things)


@pytest.mark.parametrize("scene", PLAIN)
def test_things_are_found_in_their_cells(scene):
    found = found_places(scene, render(scene, DRAWINGS))
    if len(scene.things) == 1:
        assert [item for item, *_ in found] == [scene.things[0].item]
    else:
        assert found == sorted(places(scene.things), key=lambda place: (place[2], place[1]))


@pytest.mark.parametrize("scene", PLAIN[::7])
def test_blur_and_noise_change_nothing(scene):
    image = render(scene, DRAWINGS)
    noise = np.random.default_rng(0).normal(0, 5, image.shape)
    soft = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1)))
    for changed in (np.clip(image + noise, 0, 255).astype(np.uint8), soft):
        assert found_places(scene, changed) == found_places(scene, image)


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_an_empty_image_shows_its_background_alone(name):
    image = np.broadcast_to(np.uint8(BACKGROUNDS[name]), (128, 192, 3))
    sight = recognize(image, NearestColor())
    assert sight.things == [] and sight.background == name and sight.features.shape == (0, 3)


@pytest.mark.parametrize(
    "image", [np.zeros((64, 60, 3), np.uint8), np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3))]
)
def test_other_images_are_refused(image):
    with pytest.raises(ValueError, match="expected bytes"):
        recognize(image, NearestColor())
