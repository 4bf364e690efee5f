"""training.emoji.render: things are in their squares, in their colors, on the background that was asked for."""

from __future__ import annotations

import colorsys
from random import Random

import numpy as np
import pytest
from PIL import Image

from training.emoji.render import FILLED, MARGIN, place, render, square_of, tint
from training.emoji.scene import CELL, Thing, draw_scene
from training.emoji.things import COLORS

from .stand_ins import is_background, stand_ins

DRAWINGS = stand_ins()
SCENES = [draw_scene(0, index) for index in range(120)]


@pytest.mark.parametrize("scene", SCENES[:60])
def test_things_are_inside_their_squares_and_nothing_else_is_drawn(scene):
    image = render(scene, DRAWINGS)
    assert image.shape == (scene.size[1], scene.size[0], 3) and image.dtype == np.uint8
    empty = is_background(image, scene.background)
    for thing in scene.things:
        side, (left, top) = square_of(scene, thing)
        square = ~empty[top : top + side, left : left + side]
        rows, columns = square.any(axis=1).nonzero()[0], square.any(axis=0).nonzero()[0]
        longest = max(np.ptp(rows), np.ptp(columns)) + 1
        assert (FILLED[0] - 0.06) * side <= longest <= (FILLED[1] + 0.02) * side
        margin = round(MARGIN * side) - 1
        assert min(rows.min(), columns.min()) >= margin and max(rows.max(), columns.max()) < side - margin
        empty[top : top + side, left : left + side] = True
    assert empty.all()


def test_a_thing_alone_fills_the_canvas():
    for scene in (scene for scene in SCENES if len(scene.things) == 1):
        assert square_of(scene, scene.things[0])[0] == min(scene.size)
    assert all(square_of(s, t)[0] == CELL for s in SCENES if len(s.things) > 1 for t in s.things)


def test_images_are_a_function_of_scene_and_drawings():
    assert all((render(scene, DRAWINGS) == render(scene, DRAWINGS)).all() for scene in SCENES[:10])


@pytest.mark.parametrize("color", COLORS)
def test_tints_keep_shades_and_have_the_hue(color):
    ramp = np.dstack([np.tile(np.arange(256, dtype=np.uint8), (2, 1))] * 3 + [np.full((2, 256), 255, np.uint8)])
    tinted = np.asarray(tint(Image.fromarray(ramp, "RGBA"), color)).astype(float)
    light = tinted[0, :, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(light) >= -0.5).all() and light[-1] > light[0] + 80
    hue = colorsys.rgb_to_hls(*tinted[0, 128, :3] / 255)[0]
    assert min(abs(hue - COLORS[color][0]), 1 - abs(hue - COLORS[color][0])) < 0.01
    assert (tinted[..., 3] == 255).all()


def half_disc() -> Image.Image:
    """Red at the left, blue at the right."""
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:, :20], pixels[:, 20:] = (255, 0, 0, 255), (0, 0, 255, 255)
    return Image.fromarray(pixels, "RGBA")


def red_is_left(stamp: Image.Image) -> bool:
    pixels = np.asarray(stamp).astype(int)
    columns = np.arange(pixels.shape[1])
    red, blue = ((pixels[..., c] * pixels[..., 3]).sum(axis=0) for c in (0, 2))
    return bool((columns * red).sum() / red.sum() < (columns * blue).sum() / blue.sum())


def test_drawings_are_mirrored_only_where_they_may_be():
    free = [red_is_left(place(half_disc(), 64, True, Random(seed))) for seed in range(40)]
    kept = [red_is_left(place(half_disc(), 64, False, Random(seed))) for seed in range(40)]
    assert 8 < sum(free) < 32 and all(kept)


def test_edges_have_no_halo():
    """A white disc on white stays white: the black of transparent pixels does not bleed in."""
    disc = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    disc.paste((250, 249, 245, 255), (5, 5, 35, 35))
    drawings = {("noto", "cat"): disc}
    scene = SCENES[0]
    scene = type(scene)("crowded", 2, 2, (Thing("cat", None, "noto", 0, 0),), "white", "", {}, 0, 0)
    assert render(scene, drawings).min() > 235
