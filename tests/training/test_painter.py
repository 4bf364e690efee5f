"""training.painter: the pictures are those of the sampler, whatever the batches."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch
from tqdm import tqdm

from devtools.random_stack import MODEL_FILE, TEXT_ENCODER_FILE, VAE_FILE, write_stack
from tim_model import TiMPipeline, sample
from tim_model.pictures import to_pictures
from training.painter import Painter
from training.scenes import task_lines
from training.tasks import TaskLine
from training.times import Draws

LINES = [TaskLine(**line) for line in task_lines(2)]


@pytest.fixture(scope="module")
def painter(tmp_path_factory) -> Painter:
    models = tmp_path_factory.mktemp("models")
    write_stack(models)
    parts = models / "diffusion_models" / MODEL_FILE, models / "text_encoders" / TEXT_ENCODER_FILE
    pipeline = TiMPipeline.from_files(*parts, models / "vae" / VAE_FILE, device="cpu")
    return Painter(pipeline, LINES, pipeline.text([line.prompt for line in LINES]))


def draw(painter: Painter, steps: int = 2, cfg: float = 2.5) -> list[np.ndarray]:
    return painter.draw(steps, cfg, tqdm(disable=True))


@pytest.mark.parametrize("velocity", [False, True])
def test_draws_each_prompt_as_the_sampler_does(painter, velocity):
    painter = replace(painter, seed=3, velocity=velocity)
    for i, picture in enumerate(draw(painter)):
        line, pipeline = LINES[i], painter.pipeline
        noise = Draws(3, 0, [i]).normal("noise", (32, line.height // 32, line.width // 32))
        condition = (features[i : i + 1] for features in painter.condition)
        latents = sample(pipeline.net, noise, [1, 0.5, 0], *condition, cfg=2.5, velocity=velocity)
        expected = np.asarray(to_pictures(pipeline.decode(latents))[0])
        assert picture.shape == (line.height, line.width, 3)
        np.testing.assert_allclose(picture.astype(int), expected, atol=1)  # rounding differs between batches


def test_batches_change_no_picture(painter):
    for a, b in zip(draw(painter), draw(replace(painter, batch=1)), strict=True):
        np.testing.assert_allclose(a.astype(int), b, atol=1)


def test_batches_hold_every_prompt_once_and_one_size(painter):
    batches = replace(painter, batch=2).batches()
    assert sorted(i for places, _ in batches for i in places) == list(range(len(LINES)))
    for places, (batch, _, height, width) in batches:
        assert batch == len(places) <= 2
        assert {(LINES[i].width, LINES[i].height) for i in places} == {(32 * width, 32 * height)}


def test_seed_velocity_guidance_and_steps_all_matter(painter):
    def first(change: dict, **sampling: float) -> np.ndarray:
        return draw(replace(painter, lines=LINES[:1], **change), **sampling)[0].astype(int)

    plain = first({})
    for other in (first({"seed": 1}), first({"velocity": True}), first({}, cfg=1), first({}, steps=1)):
        assert np.abs(other - plain).max() > 1


def test_counts_the_steps_of_all_pictures(painter):
    with tqdm(file=StringIO()) as bar:
        painter.draw(3, 1.0, bar)
        assert bar.n == 3 * len(LINES)


def test_reconstructs_through_the_vae(painter):
    picture = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    vae = painter.pipeline.vae
    image = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
    expected = np.asarray(to_pictures(vae.decode(vae.encode(image)))[0])
    np.testing.assert_array_equal(painter.reconstruct(picture), expected)


def test_refuses_sizes_that_the_model_cannot_have(painter):
    with pytest.raises(ValueError, match="expected multiples of 32"):
        replace(painter, lines=[replace(LINES[0], width=48)]).batches()
