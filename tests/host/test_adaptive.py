"""As many transitions as each image needs, as a sampler of the host."""

from __future__ import annotations

import pytest
import torch

from tests.host.graphs import (
    EVERY_STEP,
    MODEL_FILE,
    SEED,
    Graph,
    advanced_sampling,
    assert_close,
    class_model,
    custom_sampling,
    guider,
    labels,
    node,
    run_latent,
    schedule,
    shown,
)
from tests.host.test_errors import failure
from tests.host.test_stock_nodes import pictures, watch
from tim_model import load_checkpoint, make_times
from tim_model.sampling.adaptive import sample_adaptively
from tim_model.sampling.noise import draw_noise

MOST = 12
SIGMAS = schedule(steps=MOST)
ADAPTIVE = node("TiMAdaptiveSampler", tolerance=0.1)


@pytest.fixture(scope="module")
def net():
    return load_checkpoint(MODEL_FILE)


def sampled(net, tolerance: float, batch: int = 3, **guidance):
    noise = draw_noise((batch, 3, 32, 32), SEED)
    y, settings = labels(noise), {"cfg": 2.5, "guidance_interval": EVERY_STEP, **guidance}
    calls = []
    x = sample_adaptively(
        net, noise, make_times("uniform", MOST), tolerance, y, torch.full_like(y, 10), calls.append, **settings
    )
    return x, len(calls)


@pytest.mark.parametrize("tolerance", [0.001, 0.1, 10.0])
def test_the_library_s(host, net, tolerance):
    """With as many network calls, in a batch whose images differ in their steps."""
    counted = node("TestCountCalls", model=["model", 0], name=f"adaptive {tolerance}")
    sampling = custom_sampling(node("TiMAdaptiveSampler", tolerance=tolerance), SIGMAS)
    sampling["sample"]["inputs"]["model"] = ["counted", 0]
    calls = node("TestCalls", samples=["sample", 0], name=f"adaptive {tolerance}")
    graph = {**class_model(batch=3), "counted": counted, **sampling, "calls": calls}
    expected, count = sampled(net, tolerance)
    assert_close(run_latent(host, graph), expected, largest=5e-4)
    assert int(run_latent(host, graph, "calls")[0, 0, 0, 0]) == count <= MOST


def test_a_guidance_interval(host, net):
    graph = {**class_model(batch=3), **advanced_sampling(guider(), ADAPTIVE, SIGMAS)}
    assert_close(run_latent(host, graph), sampled(net, 0.1, guidance_interval=(0.0, 1.0))[0], largest=5e-4)


def test_no_image_depends_on_the_others(host):
    together, alone = (
        run_latent(host, {**class_model(batch=batch), **custom_sampling(ADAPTIVE, SIGMAS)}) for batch in (3, 1)
    )
    assert_close(together[:1], alone, largest=5e-4)


def test_every_call_shows_progress_and_a_preview(host, net):
    sampler = node("TiMAdaptiveSampler", tolerance=0.08)  # of no other test, whose result the host would keep
    events = watch(host, {**pictures({}), **custom_sampling(sampler, SIGMAS)})
    count = sampled(net, 0.08, batch=1)[1]
    assert len([event for event in events if event.type == "preview"]) == count
    steps = [event.data["value"] for event in events if event.type == "progress"]
    assert steps[-count:] == list(range(1, count + 1))


def test_interruption(host):
    slow = custom_sampling(node("TiMAdaptiveSampler", tolerance=0.001), schedule(steps=9000), seed=31)
    with host.listen() as stream:
        for event in stream.until_finished(host.queue({**pictures({}), **slow}, stream.client_id)):
            if event.type == "progress" and event.data["value"] == 5:
                host.interrupt()
    assert event.type == "execution_interrupted"


def masked(sampling: Graph) -> Graph:
    sampling["sample"]["inputs"]["latent_image"] = ["masked", 0]
    square = node("SolidMask", value=1.0, width=16, height=32)
    mask = node("MaskComposite", destination=["zero", 0], source=["square", 0], x=0, y=0, operation="or")
    return {
        **class_model(),
        "zero": node("SolidMask", value=0.0, width=32, height=32),
        "square": square,
        "mask": mask,
        "masked": node("SetLatentNoiseMask", samples=["latent", 0], mask=["mask", 0]),
        **sampling,
    }


def test_under_a_noise_mask_it_is_the_transition_sampler(host):
    plain = node("TiMTransitionSampler", stochasticity=0.0, velocity=False)
    found, expected = (run_latent(host, masked(custom_sampling(s, SIGMAS))) for s in (ADAPTIVE, plain))
    assert torch.equal(found, expected) and found[..., 16:].abs().max() < 1e-5


def test_a_noise_mask_is_told(host):
    graph = masked(custom_sampling(ADAPTIVE, SIGMAS, seed=SEED + 1))
    ((_, text),) = shown(host, {**graph, "out": node("SaveLatent", samples=["sample", 0], filename_prefix="masked")})
    assert "no tolerance is measured" in text


def test_another_model_is_one_line(host):
    graph = {
        "model": node("TestSmallFlux"),
        "positive": node("TestTextLikeConditioning", seed=1),
        "negative": node("TestTextLikeConditioning", seed=2),
        "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        **custom_sampling(ADAPTIVE, SIGMAS),
    }
    graph["sample"]["inputs"] |= {"positive": ["positive", 0], "negative": ["negative", 0]}
    message = failure(host, graph).exception_message.strip()
    assert "is no TiM model, for which alone TiM Adaptive Sampler is" in message and "\n" not in message


def test_part_of_the_noise(host):
    """Times need not start at 1."""
    found = run_latent(host, {**class_model(), **custom_sampling(ADAPTIVE, schedule(steps=8, start=0.96))})
    assert found.isfinite().all() and found.std() > 0.05
