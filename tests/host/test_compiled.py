"""The stock Torch Compile Model node's wrapper on a TiM MODEL, with graphs that run as they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from devtools.client import Client
from tests.host.graphs import EVERY_STEP, MODEL_FILE, SEED, assert_close, ksampler, node, reference, run_patched
from tests.host.text_graphs import CONDITIONED, assert_same_latents, run_text_latent, text_model, text_reference
from tim_model import load_checkpoint, make_times
from tim_model.sampling.noise import draw_noise

COMPILED = "compiled a graph"
RUNS = (((64, 96), "a fox"), ((64, 96), "a cat on a mat"), ((96, 64), "a fox"), ((128, 96), ""))  # size, prompt


def graphs_of(host: Client, run: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """What `run` gives, and how many graphs the host compiled for it."""
    before = host.log.count(COMPILED)
    result = run()
    return result, host.log.count(COMPILED) - before


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_class_model(host, value):
    """With the host's own attention for CPUs, and in one piece with that for GPUs."""
    found, graphs = graphs_of(host, lambda: run_patched(host, "TestCompiled", value=value))
    times, noise = make_times("uniform", 4), draw_noise((1, 3, 32, 32), SEED)
    assert_close(found, reference(load_checkpoint(MODEL_FILE), noise, times, guidance_interval=EVERY_STEP))
    assert graphs == 1 if value else graphs > 0


@pytest.mark.usefixtures("stack")
def test_text_model_at_two_sizes(host, pipeline):
    """Another prompt makes no new graph; another size makes one for all sizes."""
    counts = []
    for (width, height), words in RUNS:
        graph = text_model(positive=words, width=width, height=height)
        graph["patched"] = node("TestCompiled", model=["model", 0], value=1.0)
        graph["sample"] = ksampler(**{**CONDITIONED, "model": ["patched", 0]})
        found, graphs = graphs_of(host, lambda graph=graph: run_text_latent(host, graph, pipeline))
        counts.append(graphs)
        expected = text_reference(
            pipeline, pipeline.text(words, graph["negative"]["inputs"]["text"]),
            pipeline.noise((width, height), 1, SEED), guidance_interval=EVERY_STEP,
        )  # fmt: skip
        assert_same_latents(found, expected)
    assert counts[0] == 1 and sum(counts) <= 3
