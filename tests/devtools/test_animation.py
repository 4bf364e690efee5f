"""The animation has a frame for each number of steps, with all images and its cost, in the order that was given."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from devtools.animation import CELL, GAP, HEADER, LAST_PAUSE, LINES, PAUSE, Frame, draw, save_animation

PROMPTS = ["a red sneaker", "a blue dress and a yellow boot far away from it", "a bag"]
COLORS = [(200, 30, 30), (30, 30, 200), (30, 160, 30)]


def frame(steps: int, calls: int, brightness: int = 0) -> Frame:
    colors = [tuple(min(255, value + brightness) for value in color) for color in COLORS]
    images = {prompt: Image.new("RGB", (32, 32), color) for prompt, color in zip(PROMPTS, colors)}
    return Frame(steps, calls, 0.314, images)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def test_images_stand_in_two_rows_over_their_prompts():
    sheet = draw(frame(2, 3), [1, 2])
    assert sheet.size == (2 * (CELL + GAP) + GAP, HEADER + 2 * (CELL + LINES))
    found = pixels(sheet)
    for i, color in enumerate(COLORS):
        x, y = GAP + i % 2 * (CELL + GAP), HEADER + i // 2 * (CELL + LINES)
        assert (found[y : y + CELL, x : x + CELL] == color).all()
        assert found[y + CELL : y + CELL + LINES, x : x + CELL].min() < 100, "no prompt"
    assert (found[HEADER + CELL + LINES :, 2 * GAP + CELL :] == 255).all(), "there is no fourth image"


@pytest.mark.parametrize(("calls", "cost"), [(1, "1 network call, 0.31 s"), (3, "3 network calls, 0.31 s")])
def test_cost(calls, cost):
    assert frame(2, calls).cost == cost


def test_the_frame_s_own_number_of_steps_stands_out():
    """Headers differ in the numbers, which are faint but for their own."""
    one, two = (pixels(draw(Frame(steps, 1, 0.3, frame(1, 1).images), [1, 22]))[:HEADER] for steps in (1, 22))
    numbers = np.s_[:, : GAP * 5]
    assert (one[numbers].min(), two[numbers].min()) == (0, 0) and (one[numbers] != two[numbers]).any()
    first = np.s_[:, : GAP * 3]
    assert one[first].min() == 0 and two[first].min() > 100


def test_animation_has_every_frame(tmp_path):
    frames = [frame(steps, calls, 15 * i) for i, (steps, calls) in enumerate([(1, 1), (2, 3), (4, 7)])]
    save_animation(frames, tmp_path / "made.webp")
    with Image.open(tmp_path / "made.webp") as made:
        assert (made.format, made.n_frames, made.info["loop"]) == ("WEBP", 3, 0)
        pauses = []
        for i, expected in enumerate(frames):
            made.seek(i)
            difference = pixels(made) - pixels(draw(expected, [1, 2, 4]))
            assert abs(difference).mean() < 3
            pauses.append(made.info["duration"])
    assert pauses == [PAUSE, PAUSE, LAST_PAUSE]
