"""The network reads the text of a run once, and again for another run, model or prompt."""

from __future__ import annotations

import pytest

from tests.host.graphs import EVERY_STEP, SEED, ksampler, node
from tests.host.text_graphs import (
    CONDITIONED,
    FOX,
    HEIGHT,
    UGLY,
    WIDTH,
    assert_same_latents,
    run_text_latent,
    text_model,
    text_reference,
)

pytestmark = pytest.mark.usefixtures("stack")
READ = "the network reads a text"


def logged(**changes) -> dict:
    graph = {**text_model(), "patched": node("TestLoggedText", model=["model", 0], value=0.0)}
    return {**graph, "sample": ksampler(**{**CONDITIONED, "model": ["patched", 0], **changes})}


@pytest.mark.parametrize("changes", [{}, {"seed": SEED + 1}])
def test_text_is_read_once_in_a_run(host, pipeline, changes):
    before = host.log.count(READ)
    found = run_text_latent(host, logged(**changes), pipeline)
    assert host.log.count(READ) - before == 1  # both prompts as one batch, in each of four steps
    noise = pipeline.noise((WIDTH, HEIGHT), 1, changes.get("seed", SEED))
    assert_same_latents(found, text_reference(pipeline, state=noise, guidance_interval=EVERY_STEP))


def test_a_text_that_a_node_changes_in_place_is_read_again(host, pipeline):
    """At every step its features grow by a tenth of what they were."""
    graph = {**text_model(), "patched": node("TestLoggedText", model=["model", 0], value=0.1)}
    before = host.log.count(READ)
    found = run_text_latent(host, {**graph, "sample": ksampler(**{**CONDITIONED, "model": ["patched", 0]})}, pipeline)
    assert host.log.count(READ) - before == 4
    condition = pipeline.text(FOX, UGLY)
    changed = type(condition)(*(1.1 * features for features in condition))
    assert_same_latents(found, text_reference(pipeline, changed, guidance_interval=EVERY_STEP))
