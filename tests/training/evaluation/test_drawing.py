"""training.evaluation.drawing: the images are those of the sampler, whatever the batches."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch
from tqdm import tqdm

from devtools.random_stack import MODEL_FILE, TEXT_ENCODER_FILE, VAE_FILE, write_stack
from tim_model import TiMPipeline, sample
from tim_model.images import to_pictures
from training.evaluation.drawing import PromptSampler
from training.objectives.draws import Draws
from training.scenes.folder import make_prompts

PROMPTS = make_prompts(2)


@pytest.fixture(scope="module")
def sampler(tmp_path_factory) -> PromptSampler:
    models = tmp_path_factory.mktemp("models")
    write_stack(models)
    parts = models / "diffusion_models" / MODEL_FILE, models / "text_encoders" / TEXT_ENCODER_FILE
    pipeline = TiMPipeline.from_files(*parts, models / "vae" / VAE_FILE, device="cpu")
    return PromptSampler(pipeline, PROMPTS, pipeline.text([prompt.text for prompt in PROMPTS]))


def draw(sampler: PromptSampler, steps: int = 2, cfg: float = 2.5) -> list[np.ndarray]:
    return sampler.draw(steps, cfg, tqdm(disable=True))


@pytest.mark.parametrize("velocity", [False, True])
def test_draws_each_prompt_as_the_sampler_does(sampler, velocity):
    sampler = replace(sampler, seed=3, velocity=velocity)
    for i, picture in enumerate(draw(sampler)):
        prompt, pipeline = PROMPTS[i], sampler.pipeline
        noise = Draws(3, 0, [i]).normal("noise", (32, prompt.height // 32, prompt.width // 32))
        condition = (features[i : i + 1] for features in sampler.condition)
        latents = sample(pipeline.net, noise, [1, 0.5, 0], *condition, cfg=2.5, velocity=velocity)
        expected = np.asarray(to_pictures(pipeline.decode(latents))[0])
        assert picture.shape == (prompt.height, prompt.width, 3)
        np.testing.assert_allclose(picture.astype(int), expected, atol=1)  # rounding differs between batches


def test_batches_change_no_picture(sampler):
    for a, b in zip(draw(sampler), draw(replace(sampler, batch=1)), strict=True):
        np.testing.assert_allclose(a.astype(int), b, atol=1)


def test_batches_hold_every_prompt_once_and_one_size(sampler):
    batches = replace(sampler, batch=2).batches()
    assert sorted(i for places, _ in batches for i in places) == list(range(len(PROMPTS)))
    for places, (batch, _, height, width) in batches:
        assert batch == len(places) <= 2
        assert {(PROMPTS[i].width, PROMPTS[i].height) for i in places} == {(32 * width, 32 * height)}


def test_seed_velocity_guidance_and_steps_all_matter(sampler):
    def first(change: dict, **sampling: float) -> np.ndarray:
        return draw(replace(sampler, prompts=PROMPTS[:1], **change), **sampling)[0].astype(int)

    plain = first({})
    for other in (first({"seed": 1}), first({"velocity": True}), first({}, cfg=1), first({}, steps=1)):
        assert np.abs(other - plain).max() > 1


def test_counts_the_steps_of_all_pictures(sampler):
    with tqdm(file=StringIO()) as bar:
        sampler.draw(3, 1.0, bar)
        assert bar.n == 3 * len(PROMPTS)


def test_reconstructs_through_the_vae(sampler):
    picture = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    vae = sampler.pipeline.vae
    image = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
    expected = np.asarray(to_pictures(vae.decode(vae.encode(image)))[0])
    np.testing.assert_array_equal(sampler.reconstruct(picture), expected)


def test_refuses_sizes_that_the_model_cannot_have(sampler):
    with pytest.raises(ValueError, match="expected multiples of 32"):
        replace(sampler, prompts=[replace(PROMPTS[0], width=48)]).batches()
