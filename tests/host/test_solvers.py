"""The samplers for flow-matching velocities, on TiM, SD3 and FLUX.1."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from tests.host.flow_graphs import other_families
from tests.host.graphs import (
    MODEL_FILE,
    SEED,
    Graph,
    assert_close,
    class_model,
    custom_sampling,
    labels,
    node,
    run_latent,
    schedule,
    shown,
)
from tests.host.test_errors import failure
from tim_model import load_checkpoint, make_times
from tim_model.sampling.noise import draw_noise, image_noise_stream
from tim_model.sampling.sampler import guided_field
from tim_model.sampling.solvers.epd import epd, fingerprint, midpoint_table, write_table
from tim_model.sampling.solvers.multistep import a_flops, ab2
from tim_model.sampling.solvers.sada import Skipping, sada
from tim_model.sampling.solvers.skipped_step import skipped_step

STEPS = 9
TIMES = make_times("uniform", STEPS)
SIGMAS = schedule(steps=STEPS)
NODES = {
    "ab2": node("TiMSamplerAB2"),
    "a_flops": node("TiMSamplerAFloPS", clamp=1.0),
    "sada": node("TiMSamplerSADA", rule="alternate", threshold=0.02, max_skips=1),
    "skipped_step": node("TiMSamplerSkippedStep", eta=0.7, switch=0.3),
    "epd": node("TiMSamplerEPD", table="midpoint"),
}
SOLVERS = {
    "ab2": ab2,
    "a_flops": a_flops,
    "sada": partial(sada, skipping=Skipping("alternate")),
    "skipped_step": partial(skipped_step, eta=0.7, switch=0.3),
    "epd": partial(epd, table=midpoint_table(TIMES)),
}
CALLS = {"ab2": 9, "a_flops": 9, "sada": 7, "skipped_step": 9, "epd": 18}
each = pytest.mark.parametrize("name", NODES)


@pytest.fixture(scope="module")
def net():
    return load_checkpoint(MODEL_FILE)


@pytest.fixture(scope="module")
def others(host) -> dict[str, Graph]:
    return other_families(host)


def velocity_of(net, cfg: float):
    """F at r = t of the class model in the graphs, guided in every step."""

    def velocity(x, t):
        times, y = x.new_full((len(x),), t), labels(x)
        with torch.no_grad():
            return guided_field(net, y, torch.full_like(y, 10), cfg)(x, times, times, True)

    return velocity


@each
def test_on_tim_they_are_the_library_s_over_velocities(host, net, name):
    found = run_latent(host, {**class_model(batch=2), **custom_sampling(NODES[name], SIGMAS)})
    options = {"noise_fn": image_noise_stream(SEED)} if name == "skipped_step" else {}
    expected = SOLVERS[name](velocity_of(net, 2.5), draw_noise((2, 3, 32, 32), SEED), TIMES, **options)
    assert_close(found, expected, largest=5e-4)


@each
def test_no_notice_about_velocities_that_are_wanted(host, name):
    assert (
        shown(
            host,
            {
                **class_model(),
                **custom_sampling(NODES[name], SIGMAS),
                "out": node("SaveLatent", samples=["sample", 0], filename_prefix="solver"),
            },
        )
        == []
    )


@each
@pytest.mark.parametrize("family", ["sd3", "flux"])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_on_other_families(host, others, family, name, cfg):
    """Finite, the number of network calls that the solver makes, and the images of a batch independent."""
    counted = node("TestCountCalls", model=["model", 0], name=f"{family} {name} {cfg}")
    simple = node("BasicScheduler", model=["model", 0], scheduler="simple", steps=STEPS, denoise=1.0)
    sampling = custom_sampling(NODES[name], simple, cfg=cfg)
    links = {"model": ["counted", 0], "positive": ["positive", 0], "negative": ["negative", 0]}
    sampling["sample"]["inputs"] |= links
    calls = node("TestCalls", samples=["sample", 0], name=f"{family} {name} {cfg}")
    graph = {**others[family], "counted": counted, **sampling, "calls": calls}
    found, count = run_latent(host, graph), int(run_latent(host, graph, "calls")[0, 0, 0, 0])
    assert found.isfinite().all() and found.std() > 0.01
    assert count == CALLS[name]
    alone = {**graph, "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=1)}
    torch.testing.assert_close(run_latent(host, alone)[0], found[0], atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_one_step_is_x_minus_F(host, others, family):
    """As the stock Euler has it."""
    one = node("BasicScheduler", model=["model", 0], scheduler="simple", steps=1, denoise=1.0)
    results = []
    for sampler in (node("TiMSamplerAB2"), node("KSamplerSelect", sampler_name="euler")):
        sampling = custom_sampling(sampler, one, cfg=1.0)
        sampling["sample"]["inputs"] |= {"positive": ["positive", 0], "negative": ["negative", 0]}
        results.append(run_latent(host, {**others[family], **sampling}))
    assert_close(*results)


@each
def test_a_model_that_is_no_flow_model_is_one_line(host, others, name):
    other = node("ModelSamplingDiscrete", model=["model", 0], sampling="eps", zsnr=False)
    sampling = custom_sampling(NODES[name], schedule(steps=4))
    sampling["sample"]["inputs"] |= {"model": ["other", 0], "positive": ["positive", 0], "negative": ["negative", 0]}
    message = failure(host, {**others["flux"], "other": other, **sampling}).exception_message
    assert "is no flow-matching model" in message and "\n" not in message.strip()


@each
def test_rising_times_are_one_line(host, others, name):
    rising = node("FlipSigmas", sigmas=["falling", 0])
    sampling = custom_sampling(NODES[name], rising)
    sampling["sample"]["inputs"] |= {"positive": ["positive", 0], "negative": ["negative", 0]}
    message = failure(host, {**others["flux"], **sampling, "falling": SIGMAS}).exception_message
    assert "strictly decreasing" in message and "\n" not in message.strip()


def test_a_table_for_one_model_its_times_and_cfg(host, host_base, net):
    table = replace(midpoint_table(TIMES), cfg=2.5, model=fingerprint(net.named_parameters()))
    folder = host_base / "models" / "model_patches"
    folder.mkdir(parents=True, exist_ok=True)
    write_table(table, folder / "nine.safetensors")
    sampler = node("TiMSamplerEPD", table="nine.safetensors")
    right = {**class_model(), **custom_sampling(sampler, SIGMAS)}
    assert torch.equal(run_latent(host, right), run_latent(host, {**right, "sampler": NODES["epd"]}))
    wrong = {"for the times": (schedule(steps=4), 2.5), "for cfg 2.5, not for 4": (SIGMAS, 4.0)}
    for message, (sigmas, cfg) in wrong.items():
        graph = {**class_model(), **custom_sampling(sampler, sigmas, cfg=cfg)}
        assert message in failure(host, graph).exception_message
    write_table(replace(table, model=table.model + 1), folder / "other.safetensors")
    other = custom_sampling(node("TiMSamplerEPD", table="other.safetensors"), SIGMAS)
    assert "for another model" in failure(host, {**class_model(), **other}).exception_message


@each
def test_a_kept_part_stays(host, name):
    """Under a noise mask the part outside it is that of the latent."""
    mask = node("SolidMask", value=0.0, width=32, height=32)
    masked = node("SetLatentNoiseMask", samples=["latent", 0], mask=["mask", 0])
    sampling = custom_sampling(NODES[name], SIGMAS)
    sampling["sample"]["inputs"]["latent_image"] = ["masked", 0]
    found = run_latent(host, {**class_model(), "mask": mask, "masked": masked, **sampling})
    assert found.abs().max() < 1e-5
