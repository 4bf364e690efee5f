"""Under a noise mask the network is asked for velocities, and our own sampler draws new noise in every step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

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
    ksampler,
    labels,
    load_latent,
    node,
    reference,
    run_latent,
    schedule,
    shown,
    tim_sampler,
)
from tim_model import load_checkpoint, make_times, sample
from tim_model.sampling.noise import draw_noise, noise_stream

SHAPE = (2, 3, 32, 32)
TIMES = [1.0, 0.7, 0.4, 0.15, 0.0]
CUSTOM = schedule(schedule="custom", times="1, 0.7, 0.4, 0.15, 0")
TRANSITIONS = node("TiMTransitionSampler", stochasticity=0.0, velocity=False)
PICTURE = 0.8 * torch.linspace(-1, 1, 32).expand(SHAPE)
ALL = (0.0, 1.0)
BLIND = "the network sees nothing of the part that is kept"


@pytest.fixture(scope="module")
def net():
    return load_checkpoint(MODEL_FILE)


@pytest.fixture(scope="module")
def noise() -> Tensor:
    return draw_noise(SHAPE, SEED)


def left_half(value: float = 0.0) -> Tensor:
    """1 on the left half, `value` on the right."""
    mask = torch.full(SHAPE, value)
    mask[..., :16] = 1
    return mask


def masked_model(host, value: float = 0.0) -> Graph:
    """The class model with a picture as "latent", the mask of `left_half` on it."""
    picture = load_latent(host.base, "gradient", PICTURE)
    mask = {
        "right": node("SolidMask", value=value, width=32, height=32),
        "left": node("SolidMask", value=1.0, width=16, height=32),
        "mask": node("MaskComposite", destination=["right", 0], source=["left", 0], x=0, y=0, operation="or"),
    }
    if 0 < value < 1:
        mask["mask"]["inputs"]["operation"] = "add"
    masked = node("SetLatentNoiseMask", samples=["picture", 0], mask=["mask", 0])
    return {**class_model(), "picture": picture, **mask, "latent": masked}


def inpaint(net, noise: Tensor, times: list[float], start: Tensor | None = None, mask=None, known=None, **options):
    """`tim_model.sample`, where the network sees the picture with `known` noise outside the mask, which stays."""
    mask = left_half() if mask is None else mask
    known = noise if known is None else known
    options = {"cfg": 2.5, "guidance_interval": ALL, **options}

    def field(x: Tensor, t: Tensor, r: Tensor, y: Tensor) -> Tensor:
        s = t[:, None, None, None]
        inside = x * mask + (s * known + (1 - s) * PICTURE) * (1 - mask)
        data = (inside - s * net(inside, t, r, y)) * mask + PICTURE * (1 - mask)
        return (x - data) / s

    y = labels(noise)
    return sample(field, noise if start is None else start, times, y, torch.full_like(y, 10), **options)


def test_euler_takes_velocities(host, net, noise):
    found = run_latent(host, {**masked_model(host), "sample": ksampler(latent_image=["latent", 0])})
    expected = inpaint(net, noise, make_times("uniform", 4), velocity=True, guidance_interval=EVERY_STEP)
    assert_close(found, expected)
    assert (found - PICTURE)[..., 16:].abs().max() < 1e-6
    assert (found - PICTURE)[..., :16].abs().max() > 0.1


def test_ddim_takes_velocities(host, net, noise):
    """It has other noise on the part that is kept."""
    found = run_latent(host, {**masked_model(host), "sample": ksampler(sampler_name="ddim")})
    known = draw_noise(SHAPE, SEED + 1)
    options = {"velocity": True, "guidance_interval": EVERY_STEP, "known": known}
    assert_close(found, inpaint(net, noise, make_times("uniform", 4), **options))


@pytest.mark.parametrize("stochasticity", [0.0, 0.3])
def test_tim_sampler_restarts(host, net, noise, stochasticity):
    graph = {**masked_model(host), "sample": tim_sampler(stochasticity=stochasticity)}
    found = run_latent(host, graph)
    options = {"velocity": True, "redraw": True, "noise_fn": noise_stream(SEED)}
    assert_close(found, inpaint(net, noise, make_times("uniform", 4), **options))
    assert (found - PICTURE)[..., 16:].abs().max() < 1e-6


SWITCHES = {
    "default": ({}, {"velocity": True, "redraw": True}),
    "velocity": ({"velocity": True}, {"velocity": True}),
    "off": ({"fit_mask": False}, {}),
    "off, stochastic": ({"fit_mask": False, "stochasticity": 0.3}, {"stochasticity": 0.3}),
}


@pytest.mark.parametrize("inputs,options", SWITCHES.values(), ids=SWITCHES)
def test_switches_of_the_transition_sampler(host, net, noise, inputs, options):
    sampler = node("TiMTransitionSampler", **{"stochasticity": 0.0, "velocity": False, **inputs})
    found = run_latent(host, {**masked_model(host), **advanced_sampling(guider(), sampler, CUSTOM)})
    assert_close(found, inpaint(net, noise, TIMES, noise_fn=noise_stream(SEED), **options))


@pytest.mark.parametrize("way", ["options", "closure"])
def test_wrapped_euler_takes_velocities(host, net, noise, way):
    euler = node("KSamplerSelect", sampler_name="euler")
    around = node("TestWrapSampler", sampler=["inner", 0], way=way, factor=1.0)
    graph = {**masked_model(host), **custom_sampling(around, CUSTOM), "inner": euler}
    expected = inpaint(net, noise, TIMES, velocity=True, guidance_interval=EVERY_STEP)
    assert_close(run_latent(host, graph), expected, largest=2e-4)


@pytest.mark.parametrize("sampler,interval", [(ksampler, EVERY_STEP), (tim_sampler, ALL)])
def test_one_step_from_noise_stays_a_transition_and_says_what_it_lacks(host, net, noise, sampler, interval):
    graph = {**masked_model(host), "sample": sampler(steps=1)}
    assert_close(run_latent(host, graph), inpaint(net, noise, [1.0, 0.0], guidance_interval=interval))
    graph["sample"] = sampler(steps=1, seed=SEED + 1)  # not cached
    graph["saved"] = node("SaveLatent", samples=["sample", 0], filename_prefix="one")
    assert any(BLIND in text for _, text in shown(host, graph))


def test_part_of_the_noise(host, net, noise):
    """A picture that is changed under a mask, from its own state at a time below 1."""
    found = run_latent(host, {**masked_model(host), "sample": tim_sampler(denoise=0.6)})
    options = {"velocity": True, "redraw": True, "noise_fn": noise_stream(SEED)}
    times = make_times("uniform", 4, start=0.6)
    assert_close(found, inpaint(net, noise, times, 0.6 * noise + 0.4 * PICTURE, **options))


@pytest.mark.parametrize("sampler", ["euler", "transitions"])
def test_step_from_noise_to_near_the_picture_stays_a_transition(host, net, noise, sampler):
    """As some schedulers end, at 0.001 before 0."""
    node_type = {"euler": node("KSamplerSelect", sampler_name="euler"), "transitions": TRANSITIONS}[sampler]
    graph = {**masked_model(host), **custom_sampling(node_type, schedule(schedule="custom", times="1, 0.1, 0"))}
    found = run_latent(host, graph)

    def told(x: Tensor, t: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return net(x, t, r if t[0] == 1 else t, y)

    options = {"redraw": sampler == "transitions", "noise_fn": noise_stream(SEED), "guidance_interval": EVERY_STEP}
    assert_close(found, inpaint(told, noise, [1.0, 0.1, 0.0], **options), largest=2e-4)


@pytest.mark.parametrize("sampler,interval", [(ksampler, EVERY_STEP), (tim_sampler, ALL)])
def test_soft_mask(host, net, noise, sampler, interval):
    found = run_latent(host, {**masked_model(host, 0.5), "sample": sampler()})
    options = {"velocity": True, "redraw": sampler is tim_sampler, "noise_fn": noise_stream(SEED)}
    options |= {"mask": left_half(0.5), "guidance_interval": interval}
    assert_close(found, inpaint(net, noise, make_times("uniform", 4), **options))


@pytest.mark.parametrize("sampler,interval", [(ksampler, EVERY_STEP), (tim_sampler, ALL)])
def test_mask_of_ones_is_no_mask(host, net, noise, sampler, interval):
    found = run_latent(host, {**masked_model(host, 1.0), "sample": sampler(steps=5)})
    assert_close(found, reference(net, noise, make_times("uniform", 5), guidance_interval=interval))
