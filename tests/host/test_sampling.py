"""Sampling in the host gives the numbers of `tim_model.sample`, whichever nodes do it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from scipy.stats import beta
from torch import Tensor

from tests.host.graphs import (
    EVERY_STEP,
    MODEL_FILE,
    SEED,
    advanced_sampling,
    assert_close,
    class_model,
    custom_sampling,
    guider,
    ksampler,
    labels,
    load_latent,
    loader,
    node,
    reference,
    run_latent,
    schedule,
    tim_sampler,
)
from tests.host.test_errors import failure
from tim_model import SCHEDULES, load_checkpoint, make_times
from tim_model.sampling.noise import draw_noise, image_noise_stream, noise_stream
from tim_model.sampling.sampler import guided_field

SHAPE = (1, 3, 32, 32)
TIMES = [1.0, 0.7, 0.4, 0.15, 0.0]
CUSTOM = schedule(schedule="custom", times="1, 0.7, 0.4, 0.15, 0")
EULER = node("KSamplerSelect", sampler_name="euler")
SWITCHES = {"stochasticity": 0.0, "velocity": False}
TRANSITIONS = node("TiMTransitionSampler", **SWITCHES)


@pytest.fixture(scope="module")
def net():
    return load_checkpoint(MODEL_FILE)


@pytest.fixture(scope="module")
def noise() -> Tensor:
    return draw_noise(SHAPE, SEED)


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """A latent that is no zero, as an encoded picture."""
    return torch.linspace(-1, 1, 32).expand(SHAPE) * torch.tensor([1.0, 0.5, -0.3])[:, None, None]


@pytest.mark.parametrize("sampler", ["euler", "ddim"])
def test_ksampler_makes_exact_transitions(host, net, noise, sampler):
    found = run_latent(host, {**class_model(), "sample": ksampler(sampler_name=sampler)})
    expected = reference(net, noise, make_times("uniform", 4), guidance_interval=EVERY_STEP)
    assert_close(found, expected, largest=1e-5)


def test_tim_sampler_with_its_defaults(host, net, noise):
    found = run_latent(host, {**class_model(), "sample": tim_sampler()})
    assert_close(found, reference(net, noise, make_times("uniform", 4)), largest=1e-5)


def test_ksampler_starts_from_a_picture(host, net, noise, picture):
    """The host takes the last 4 of 8 steps for denoise 0.5."""
    latent = load_latent(host.base, "picture", picture)
    found = run_latent(host, {**class_model(), "latent": latent, "sample": ksampler(denoise=0.5)})
    state = 0.5 * noise + 0.5 * picture
    assert_close(found, reference(net, state, make_times("uniform", 4, start=0.5), guidance_interval=EVERY_STEP))


def test_shift_node_shifts_the_times(host, net, noise):
    shifted = node("ModelSamplingSD3", model=["model", 0], shift=3.0)
    found = run_latent(host, {**class_model(), "shifted": shifted, "sample": ksampler(model=["shifted", 0])})
    times = make_times("shifted", 4, shift=3.0)
    assert_close(found, reference(net, noise, times, guidance_interval=EVERY_STEP))


def beta_times(steps: int) -> list[float]:
    quantiles = beta.ppf(1 - torch.arange(steps).numpy() / steps, 0.6, 0.6)
    return [(round(q * 999) + 1) / 1000 for q in quantiles] + [0.0]


# The host's own formulas for a flow model, whose discrete sigmas are 0.001, 0.002, ..., 1.
STOCK_TIMES = {
    "simple": [(1000 - int(i * 1000 / 7)) / 1000 for i in range(7)] + [0.0],
    "normal": [*torch.linspace(1, 0.001, 7).tolist(), 0.0],
    "sgm_uniform": [*torch.linspace(1, 0.001, 8)[:-1].tolist(), 0.0],
    "beta": beta_times(7),
}


@pytest.mark.parametrize("scheduler", STOCK_TIMES)
def test_r_follows_stock_schedules(host, net, noise, scheduler):
    found = run_latent(host, {**class_model(), "sample": ksampler(scheduler=scheduler, steps=7)})
    assert_close(found, reference(net, noise, STOCK_TIMES[scheduler], guidance_interval=EVERY_STEP))


ALL_SCHEDULERS = [*STOCK_TIMES, "karras", "exponential", "ddim_uniform", "linear_quadratic", "kl_optimal"]


@pytest.mark.parametrize("scheduler", ALL_SCHEDULERS)
def test_inferred_r_is_the_sampler_s_own(host, scheduler):
    """KSampler, where r is inferred, against TiM Sampler over the same sigmas, where r is told."""
    sigmas = node("BasicScheduler", model=["model", 0], scheduler=scheduler, steps=4, denoise=1.0)
    told = tim_sampler(sigmas=["sigmas", 0], guidance_low=-1.0, guidance_high=2.0)
    graph = {**class_model(), "sigmas": sigmas, "told": told, "inferred": ksampler(scheduler=scheduler)}
    assert_close(run_latent(host, graph, "inferred"), run_latent(host, graph, "told"))


SETTINGS = {
    "one step": {"steps": 1},
    "interval": {"guidance_low": 0.3, "guidance_high": 0.8},
    "interval that ends on steps": {"guidance_low": 0.3, "guidance_high": 0.7, "steps": 10},
    "interval that starts on a step": {"guidance_low": 0.6, "guidance_high": 0.9, "steps": 5},
    "every step": {"guidance_low": -1.0, "guidance_high": 2.0},
    "no guidance": {"cfg": 1.0},
    "stochastic": {"stochasticity": 0.3, "steps": 5},
    "many steps": {"steps": 16, "cfg": 4.0},
} | {kind: {"schedule": kind} for kind in SCHEDULES}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_tim_sampler_is_the_library_s_sampler(host, net, noise, settings):
    found = run_latent(host, {**class_model(), "sample": tim_sampler(**settings)})
    times = make_times(settings.get("schedule", "uniform"), settings.get("steps", 4))
    interval = settings.get("guidance_low", 0.0), settings.get("guidance_high", 1.0)
    options = {"cfg": settings.get("cfg", 2.5), "guidance_interval": interval}
    options["stochasticity"] = settings.get("stochasticity", 0.0)
    assert_close(found, reference(net, noise, times, noise_fn=noise_stream(SEED), **options))


@pytest.mark.parametrize("width,height,batch", [(32, 32, 3), (48, 24, 1), (16, 40, 2)])
@pytest.mark.parametrize("sampler,interval", [(ksampler, EVERY_STEP), (tim_sampler, (0.0, 1.0))])
def test_sizes_and_batches(host, net, sampler, interval, width, height, batch):
    found = run_latent(host, {**class_model(width=width, height=height, batch=batch), "sample": sampler()})
    start = draw_noise((batch, 3, height, width), SEED)
    assert_close(found, reference(net, start, make_times("uniform", 4), guidance_interval=interval))


def test_tim_sampler_starts_from_a_picture(host, net, noise, picture):
    latent = load_latent(host.base, "picture", picture)
    found = run_latent(host, {**class_model(), "latent": latent, "sample": tim_sampler(denoise=0.6)})
    state = 0.6 * noise + 0.4 * picture
    assert_close(found, reference(net, state, make_times("uniform", 4, start=0.6)))


def test_without_denoise_the_picture_stays(host, picture):
    latent = load_latent(host.base, "picture", picture)
    found = run_latent(host, {**class_model(), "latent": latent, "sample": tim_sampler(denoise=0.0)})
    assert torch.equal(found, picture)


def test_connected_sigmas_replace_the_schedule(host, net, noise):
    graph = {**class_model(), "sigmas": CUSTOM, "sample": tim_sampler(sigmas=["sigmas", 0], steps=9, denoise=0.2)}
    assert_close(run_latent(host, graph), reference(net, noise, TIMES))


def test_largest_seed(host, net):
    seed = 0xFFFFFFFFFFFFFFFF
    found = run_latent(host, {**class_model(), "sample": tim_sampler(seed=seed)})
    assert_close(found, reference(net, draw_noise(SHAPE, seed), make_times("uniform", 4)))


@pytest.mark.parametrize("sampler", [EULER, TRANSITIONS], ids=["euler", "transitions"])
def test_sampler_custom(host, net, noise, sampler):
    found = run_latent(host, {**class_model(), **custom_sampling(sampler, CUSTOM)})
    assert_close(found, reference(net, noise, TIMES, guidance_interval=EVERY_STEP))


@pytest.mark.parametrize("sampler", [EULER, TRANSITIONS], ids=["euler", "transitions"])
def test_sampler_custom_advanced_with_guider(host, net, noise, sampler):
    guidance = {"guidance_low": 0.2, "guidance_high": 0.6}
    found = run_latent(host, {**class_model(), **advanced_sampling(guider(**guidance), sampler, CUSTOM)})
    assert_close(found, reference(net, noise, TIMES, guidance_interval=(0.2, 0.6)))


@pytest.mark.parametrize("options", [{"velocity": True}, {"stochasticity": 0.3}], ids=["velocity", "stochastic"])
def test_options_of_the_transition_sampler(host, net, noise, options):
    sampler = node("TiMTransitionSampler", **{"stochasticity": 0.0, "velocity": False, **options})
    found = run_latent(host, {**class_model(), **advanced_sampling(guider(), sampler, CUSTOM)})
    assert_close(found, reference(net, noise, TIMES, noise_fn=noise_stream(SEED), **options))


@pytest.mark.parametrize("restart", [0.5, 1.0])
@pytest.mark.parametrize("alone", [False, True], ids=["transition sampler", "sampler"])
def test_restarts(host, net, restart, alone):
    """As the library's, and each image of a batch with its own new noise."""
    own = {**advanced_sampling(guider(), node("TiMTransitionSampler", **SWITCHES, restart=restart), CUSTOM)}
    graph = {"sample": tim_sampler(sigmas=["sigmas", 0], restart=restart), "sigmas": CUSTOM} if alone else own
    options = {"restart": restart, "noise_fn": image_noise_stream(SEED)}
    found = run_latent(host, {**class_model(batch=2), **graph})
    noise = draw_noise((2, 3, 32, 32), SEED)
    assert_close(found, reference(net, noise, TIMES, **options))
    assert_close(run_latent(host, {**class_model(), **graph}), found[:1], largest=1e-3)


def test_restarts_with_stochasticity_are_one_line(host):
    graph = {**class_model(), "sample": tim_sampler(stochasticity=0.2, restart=0.5)}
    assert "restart=0.5 with stochasticity=0.2" in failure(host, graph).exception_message


@pytest.mark.parametrize("sampler", [EULER, TRANSITIONS], ids=["euler", "transitions"])
def test_two_samplers_share_a_schedule(host, net, noise, sampler):
    first = advanced_sampling(guider(), sampler, CUSTOM)
    first["sample"]["inputs"]["sigmas"] = ["split", 0]
    second = {**first["sample"]["inputs"], "latent_image": ["sample", 0], "noise": ["none", 0], "sigmas": ["split", 1]}
    graph = {**class_model(), **first, "split": node("SplitSigmas", sigmas=["sigmas", 0], step=2)}
    graph |= {"none": node("DisableNoise"), "rest": node("SamplerCustomAdvanced", **second)}
    assert_close(run_latent(host, graph, "rest"), reference(net, noise, TIMES))


def test_unguided_steps_make_no_null_pass(host):
    """Bit for bit as without guidance, and whatever the negative is."""
    graph = {**class_model(), "plain": tim_sampler(steps=1, cfg=1.0), "unguided": tim_sampler(steps=1, cfg=9.0)}
    graph["other"] = tim_sampler(steps=1, cfg=9.0, negative=["class", 0])
    plain, unguided, other = (run_latent(host, graph, name) for name in ("plain", "unguided", "other"))
    assert torch.equal(unguided, plain)
    assert torch.equal(other, plain)


def guided_velocity(net, x: Tensor, t: float) -> Tensor:
    """F at r = t with the guidance of `ksampler`."""
    y = labels(x)
    return guided_field(net, y, torch.full_like(y, 10), 2.5)(
        x, x.new_full((len(x),), t), x.new_full((len(x),), t), True
    )


def heun(net, x: Tensor, times: list[float]) -> Tensor:
    for t, r in pairwise(times):
        slope = guided_velocity(net, x, t)
        if r > 0:  # the host's last step is one of Euler
            slope = (slope + guided_velocity(net, x - (t - r) * slope, r)) / 2
        x = x - (t - r) * slope
    return x


def dpmpp_2m(net, x: Tensor, times: list[float]) -> Tensor:
    """Algorithm 2 of DPM-Solver++ (arXiv 2211.01095) with alpha = 1, as the host has it."""
    previous, h_previous = None, None
    for t, r in pairwise(times):
        data = guided_velocity(net, x, t) * -t + x
        h = torch.tensor(t / r).log() if r > 0 else torch.tensor(torch.inf)
        D = data if previous is None or r == 0 else data + h / (2 * h_previous) * (data - previous)
        x = r / t * x - torch.expm1(-h) * D
        previous, h_previous = data, h
    return x


@pytest.mark.parametrize("solver", [heun, dpmpp_2m])
def test_multistep_samplers_see_velocities(host, net, noise, solver):
    found = run_latent(host, {**class_model(), "sample": ksampler(sampler_name=solver.__name__, steps=5)})
    with torch.no_grad():
        assert_close(found, solver(net, noise, make_times("uniform", 5)))


def test_ancestral_sampler_sees_velocities(host, net, noise):
    still = node("SamplerEulerAncestral", eta=0.0, s_noise=1.0)  # no noise: plain Euler steps
    found = run_latent(host, {**class_model(), **custom_sampling(still, CUSTOM)})
    assert_close(found, reference(net, noise, TIMES, velocity=True, guidance_interval=EVERY_STEP))


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_sde", "uni_pc", "lcm", "res_multistep"])
def test_other_samplers_run(host, sampler):
    found = run_latent(host, {**class_model(), "sample": ksampler(sampler_name=sampler, steps=6)})
    assert found.isfinite().all() and found.abs().max() < 5


def test_velocities_do_not_stick_to_the_model(host, net, noise):
    """Euler after Heun in one run: the model is the same object."""
    zeros = node("LatentMultiply", samples=["heun", 0], multiplier=0.0)  # so that Euler has to wait for Heun
    graph = {**class_model(), "heun": ksampler(sampler_name="heun", steps=3), "zeros": zeros}
    found = run_latent(host, {**graph, "sample": ksampler(latent_image=["zeros", 0])})
    assert_close(found, reference(net, noise, make_times("uniform", 4), guidance_interval=EVERY_STEP))


@pytest.mark.parametrize("dtype,tolerance", [("fp32", 1e-5), ("bf16", 0.05)])
def test_weight_dtypes(host, net, noise, dtype, tolerance):
    found = run_latent(host, {**class_model(), "model": loader(dtype=dtype), "sample": tim_sampler()})
    expected = reference(net, noise, make_times("uniform", 4))
    error = (found - expected).norm() / expected.norm()
    assert error <= tolerance
    assert (error > 1e-4) == (dtype == "bf16")  # so the choice reached the weights
