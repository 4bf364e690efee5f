"""Samplers of other packs around a transition sampler keep its transitions."""

from __future__ import annotations

from itertools import pairwise

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
    labels,
    node,
    reference,
    run_latent,
    schedule,
)
from tim_model import load_checkpoint
from tim_model.sampling.noise import draw_noise
from tim_model.sampling.sampler import guided_field

SHAPE = (2, 3, 32, 32)
TIMES = [1.0, 0.7, 0.4, 0.15, 0.0]
CUSTOM = schedule(schedule="custom", times="1, 0.7, 0.4, 0.15, 0")
EULER = node("KSamplerSelect", sampler_name="euler")
TRANSITIONS = node("TiMTransitionSampler", stochasticity=0.0, velocity=False)
WAYS = ["options", "settings", "partial", "method", "class", "twice", "closure"]
LARGEST = 2e-4  # of single pixels: guidance at t = 1 amplifies the rounding of a batch
UNKNOWN = "is not known to be made of TiM's transitions"


@pytest.fixture(scope="module")
def net():
    return load_checkpoint(MODEL_FILE)


@pytest.fixture(scope="module")
def noise() -> Tensor:
    return draw_noise(SHAPE, SEED)


def wrapped(way: str, factor: float = 1.0, inner: dict = EULER) -> Graph:
    """SamplerCustom as "sample" with a sampler around `inner`, which passes `factor` times the sigma on."""
    around = node("TestWrapSampler", sampler=["inner", 0], way=way, factor=factor)
    return {**class_model(batch=2), **custom_sampling(around, CUSTOM), "inner": inner}


def shaded(net, x: Tensor, factor: float) -> Tensor:
    """Euler's steps over `TIMES` where the network is told factor * t, but the time that the step really leads to."""
    y = labels(x)
    for t, r in pairwise(TIMES):
        told = x.new_full((len(x),), t * factor)
        F = guided_field(net, y, torch.full_like(y, 10), 2.5)(x, told, told.clamp(max=r), True)
        denoised = x - t * factor * F
        x = x + (r - t) * (x - denoised) / t
    return x


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("inner", [EULER, TRANSITIONS], ids=["euler", "transitions"])
def test_wrapped_transitions_stay_transitions(host, net, noise, way, inner):
    told = host.log.count(UNKNOWN)
    found = run_latent(host, wrapped(way, inner=inner))
    plain = run_latent(host, {**class_model(batch=2), **custom_sampling(inner, CUSTOM)})
    assert (found - plain).abs().max() <= 2e-6
    assert_close(found, reference(net, noise, TIMES, guidance_interval=EVERY_STEP), LARGEST)
    assert host.log.count(UNKNOWN) == told


@pytest.mark.parametrize("factor", [0.9, 0.5, 1.1])
@pytest.mark.parametrize("way", [way for way in WAYS if way != "closure"])
def test_changed_sigma_keeps_the_target_of_the_step(host, net, noise, way, factor):
    """Also where the sigma that is passed on lies below the target, where r is t, or above the one before."""
    found = run_latent(host, wrapped(way, factor))
    with torch.no_grad():
        assert_close(found, shaded(net, noise, factor), LARGEST)


@pytest.mark.parametrize("factor", [0.9, 0.97])
def test_hidden_sampler_with_a_changed_sigma_takes_the_next_lower_time(host, net, noise, factor):
    found = run_latent(host, wrapped("closure", factor))
    with torch.no_grad():
        assert_close(found, shaded(net, noise, factor), LARGEST)


@pytest.mark.parametrize("way", ["unknown", "choice"])
def test_unknown_sampler_gets_velocities_and_says_so(host, net, noise, way):
    told = host.log.count(UNKNOWN)
    found = run_latent(host, wrapped(way))
    assert_close(found, reference(net, noise, TIMES, velocity=True, guidance_interval=EVERY_STEP), LARGEST)
    assert host.log.count(UNKNOWN) == told + 1 and "sampler foreign_euler" in host.log


@pytest.mark.parametrize("name", ["heun", "dpm_adaptive", "uni_pc", "dpmpp_2m"])
def test_stock_samplers_are_known(host, name):
    told = host.log.count(UNKNOWN)
    graph = {**class_model(), **custom_sampling(node("KSamplerSelect", sampler_name=name), CUSTOM)}
    assert run_latent(host, graph).isfinite().all()
    assert host.log.count(UNKNOWN) == told


@pytest.mark.parametrize("inner", ["heun", "euler"])
def test_partial_of_a_stock_sampler_is_that_sampler(host, inner):
    told = host.log.count(UNKNOWN)
    select = node("KSamplerSelect", sampler_name=inner)
    plain = run_latent(host, {**class_model(batch=2), **custom_sampling(select, CUSTOM)})
    assert torch.equal(run_latent(host, wrapped("only partial", inner=select)), plain)
    assert host.log.count(UNKNOWN) == told


def test_wrapped_sampler_under_our_guider(host, net, noise):
    around = node("TestWrapSampler", sampler=["inner", 0], way="options", factor=1.0)
    graph = {**class_model(batch=2), **advanced_sampling(guider(), around, CUSTOM), "inner": EULER}
    assert_close(run_latent(host, graph), reference(net, noise, TIMES), LARGEST)


def test_repeated_and_rising_times_keep_their_own_targets(host, net, noise):
    """A schedule that comes back to a time: each step leads where the sampler's does, a rising one by velocities."""
    times = torch.tensor([1.0, 0.5, 0.25, 0.5, 0.0])
    graph = {**class_model(batch=2), **custom_sampling(EULER, node("TestSigmas", values="1, 0.5, 0.25, 0.5, 0"))}
    found = run_latent(host, graph)
    x, y = noise, labels(noise)
    for t, r in pairwise(times.tolist()):
        at = x.new_full((len(x),), t)
        with torch.no_grad():
            F = guided_field(net, y, torch.full_like(y, 10), 2.5)(x, at, at.clamp(max=r), True)
        x = x + (r - t) * F
    assert_close(found, x, LARGEST)


def test_a_sampler_that_changes_its_times_leaves_those_of_others(host, net, noise):
    """uni_pc ends at 0.001 and writes that into the times it is given."""
    first = custom_sampling(node("KSamplerSelect", sampler_name="uni_pc"), CUSTOM)
    graph = {**class_model(batch=2), "first": first["sample"], "uni_pc": first["sampler"]}
    graph["first"]["inputs"]["sampler"] = ["uni_pc", 0]
    graph["zeros"] = node("LatentMultiply", samples=["first", 0], multiplier=0.0)  # so that Euler has to wait
    graph |= custom_sampling(EULER, CUSTOM)
    graph["sample"]["inputs"]["latent_image"] = ["zeros", 0]
    assert_close(run_latent(host, graph), reference(net, noise, TIMES, guidance_interval=EVERY_STEP), LARGEST)
