"""The included text-to-image stack does what it is there to show: its pictures are of what was asked for."""

from __future__ import annotations

import pytest
from tqdm import tqdm

from tim_model import TiMPipeline
from training.evaluate import BUNDLED, load_judge
from training.jury import Jury
from training.painter import Painter
from training.scenes import task_lines
from training.tasks import TaskLine

PER_TASK = 8


@pytest.fixture(scope="module")
def painter() -> Painter:
    pipeline = TiMPipeline.from_files(BUNDLED["model"], BUNDLED["text_encoder"], BUNDLED["vae"], "cpu")
    lines = [line for line in (TaskLine(**line) for line in task_lines(PER_TASK)) if not line.unseen]
    return Painter(pipeline, lines, pipeline.text([line.prompt for line in lines]))


@pytest.mark.parametrize(("steps", "least"), [(1, 0.5), (8, 0.65)])
def test_judge_accepts_most_pictures(painter, steps, least):
    """48 prompts, so that chance moves the score by 0.07 or so; what was measured is in docs/any_step.md."""
    with tqdm(disable=True) as bar:
        pictures = painter.draw(steps, 2.5, bar)
    assert Jury(load_judge(BUNDLED["classifier"]), painter.lines).score(pictures).overall > least


def test_files_are_small_enough_to_ship():
    files = [BUNDLED[part] for part in ("model", "text_encoder", "vae")]
    assert sum(path.stat().st_size for path in files) < 32e6
