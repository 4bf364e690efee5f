"""The included text-to-image stack does what it is there to show: its pictures are of what was asked for."""

from __future__ import annotations

import pytest
from tqdm import tqdm

from tim_model import TiMPipeline
from training.evaluation.bundled import BUNDLED
from training.evaluation.drawing import PromptSampler
from training.evaluation.recognizers import load_fashion_recognizer
from training.evaluation.scoring import Scorer
from training.scenes.folder import make_prompts

PER_TASK = 8


@pytest.fixture(scope="module")
def sampler() -> PromptSampler:
    pipeline = TiMPipeline.from_files(BUNDLED["model"], BUNDLED["text_encoder"], BUNDLED["vae"], "cpu")
    prompts = [prompt for prompt in make_prompts(PER_TASK) if not prompt.unseen]
    return PromptSampler(pipeline, prompts, pipeline.text([prompt.text for prompt in prompts]))


@pytest.mark.parametrize(("steps", "least"), [(1, 0.5), (8, 0.65)])
def test_judge_accepts_most_pictures(sampler, steps, least):
    """48 prompts, so that chance moves the score by 0.07 or so; what was measured is in docs/any_step.md."""
    with tqdm(disable=True) as bar:
        pictures = sampler.draw(steps, 2.5, bar)
    assert Scorer(load_fashion_recognizer(BUNDLED["classifier"]), sampler.prompts).score(pictures).overall > least


def test_files_are_small_enough_to_ship():
    files = [BUNDLED[part] for part in ("model", "text_encoder", "vae")]
    assert sum(path.stat().st_size for path in files) < 32e6
