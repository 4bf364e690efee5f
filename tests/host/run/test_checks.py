"""Every sampler refuses times that cannot work, and no sampler hands on what is not finite, in one line."""

from __future__ import annotations

import pytest
import torch

from tests.host.graphs import (
    Graph,
    advanced_sampling,
    assert_close,
    class_model,
    custom_sampling,
    guider,
    ksampler,
    load_latent,
    node,
    run_latent,
    schedule,
    tim_sampler,
)
from tests.host.test_errors import refuses

PICTURE = torch.linspace(-1, 1, 32).repeat(1, 3, 32, 1)
SOLVERS = ["euler", "ddim", "dpmpp_2m", "euler_ancestral"]


def select(name: str) -> dict:
    return node("KSamplerSelect", sampler_name=name)


def numbers(values: str) -> dict:
    return node("TestSigmas", values=values)


ABOVE_1 = {
    "align your steps": (node("AlignYourStepsScheduler", model_type="SDXL", steps=10, denoise=1.0), "14.6"),
    "gits": (node("GITSScheduler", coeff=1.2, steps=10, denoise=1.0), "14.6"),
    "sd turbo": (node("SDTurboScheduler", model=["model", 0], steps=1, denoise=1.0), "999"),
    "vp": (node("VPScheduler", steps=4, beta_d=19.9, beta_min=0.1, eps_s=0.001), "sigmas run from 1"),
    "karras": (node("KarrasScheduler", steps=4, sigma_max=14.614642, sigma_min=0.0291675, rho=7.0), "14.6"),
    "a little": (numbers("1.01, 0.5, 0"), "1.01"),
    "on the way": (numbers("0.9, 1.5, 0"), "1.5"),
    "negative": (numbers("1, 0.5, -0.5"), "-0.5"),
}


@pytest.mark.parametrize("case", ABOVE_1)
def test_times_outside_of_1_to_0(host, case):
    sigmas, word = ABOVE_1[case]
    for sampler in (select("euler"), select("dpmpp_2m")):
        graph = {**class_model(), **custom_sampling(sampler, sigmas)}
        refuses(host, graph, "SamplerCustom", "sigmas run from", word, "TiM Transition Schedule")
    graph = {**class_model(), **advanced_sampling(guider(), select("euler"), sigmas)}
    refuses(host, graph, "SamplerCustomAdvanced", "sigmas run from", word)


@pytest.mark.parametrize("sampler", SOLVERS)
def test_scheduler_that_makes_no_number_of_one_step(host, sampler):
    graph = {**class_model(), "sample": ksampler(sampler_name=sampler, scheduler="kl_optimal", steps=1)}
    refuses(host, graph, "KSampler", "NaN", "scheduler cannot make that number of steps")


@pytest.mark.parametrize("sampler", SOLVERS)
def test_times_that_rise_to_1(host, sampler):
    graph = {**class_model(), **custom_sampling(select(sampler), node("FlipSigmas", sigmas=["falling", 0]))}
    graph["falling"] = schedule()
    graph["latent"] = load_latent(host.base, "flip", PICTURE)
    refuses(host, graph, "SamplerCustom", "sigmas end at 1", "decreasing", "0.999")


@pytest.mark.parametrize("values,words", [("1", "sigmas end at 1"), ("0, 0.5, 0", "reach 0 before their end")])
def test_times_at_which_no_step_can_start(host, values, words):
    graph = {**class_model(), **custom_sampling(select("euler"), numbers(values))}
    refuses(host, graph, "SamplerCustom", words)


def test_a_picture_goes_to_noise_and_back(host):
    """Rising times below 1 are velocities, backwards."""
    picture = run_latent(host, {**class_model(), "sample": tim_sampler(cfg=1.0)})
    graph = {**class_model(), "latent": load_latent(host.base, "there", picture), "none": node("DisableNoise")}
    graph |= {"guider": node("BasicGuider", model=["model", 0], conditioning=["class", 0]), "euler": select("euler")}
    steps = 60
    up = ", ".join(str(0.001 + 0.899 * i / steps) for i in range(steps + 1))
    down = ", ".join(str(0.9 - 0.9 * i / steps) for i in range(steps + 1))
    links = {"noise": ["none", 0], "guider": ["guider", 0]}
    velocities = node("TiMTransitionSampler", stochasticity=0.0, velocity=True)
    graph |= {"velocities": velocities, "up": numbers(up), "down": numbers(down)}
    there = node("SamplerCustomAdvanced", **links, sampler=["euler", 0], sigmas=["up", 0], latent_image=["latent", 0])
    back = node("SamplerCustomAdvanced", **links, sampler=["velocities", 0], sigmas=["down", 0],
                latent_image=["there", 0])  # fmt: skip
    found = run_latent(host, {**graph, "there": there, "sample": back})
    assert (found - picture).abs().mean() < 0.05 and (found - picture).abs().mean() < 0.1 * picture.abs().mean()


def start(sampler: str, t: float) -> Graph:
    graph = {**class_model(), **custom_sampling(select(sampler), schedule(start=t, steps=2))}
    return {**graph, "sampled": graph["sample"]}


@pytest.mark.parametrize("t", [0.5, 0.1])
@pytest.mark.parametrize("sampler", SOLVERS)
def test_empty_latent_far_below_noise_is_refused(host, sampler, t):
    refuses(host, start(sampler, t), "SamplerCustom", f"starts at time {t} from an empty latent", "gray")


@pytest.mark.parametrize("node_type", ["KSampler", "TiMSampler"])
def test_denoise_of_an_empty_latent_is_refused(host, node_type):
    sampler = {"KSampler": ksampler, "TiMSampler": tim_sampler}[node_type]
    refuses(host, {**class_model(), "sample": sampler(denoise=0.5)}, node_type, "0.5 from an empty latent")


def test_empty_latent_a_little_below_noise_is_told(host):
    """ddim_uniform starts there at 4 steps."""
    told = host.log.count("sampling starts at time 0.752 from an empty latent")
    graph = {**class_model(), "sample": ksampler(scheduler="ddim_uniform")}
    assert run_latent(host, graph).isfinite().all()
    assert host.log.count("sampling starts at time 0.752 from an empty latent") == told + 1


def test_a_picture_may_start_anywhere(host):
    graph = start("euler", 0.1)
    graph["latent"] = load_latent(host.base, "start", PICTURE)
    assert run_latent(host, graph).isfinite().all()


@pytest.mark.parametrize("node_type", ["KSampler", "SamplerCustom", "TiMSampler"])
def test_results_that_are_not_finite_are_refused(host, node_type):
    latent = torch.full((1, 3, 32, 32), float("nan"))
    graph = {**class_model(), "latent": load_latent(host.base, "nan", latent)}
    if node_type == "SamplerCustom":
        graph |= custom_sampling(select("dpmpp_2m"), schedule(start=0.5))
    else:
        graph["sample"] = {"KSampler": ksampler, "TiMSampler": tim_sampler}[node_type](denoise=0.5)
    refuses(host, graph, node_type, "NaN or infinite")


@pytest.mark.parametrize("cfg,told", [(8.0, 1), (4.0, 0)])
def test_strong_guidance_is_noted(host, cfg, told):
    before = host.log.count("far above the 2.5")
    run_latent(host, {**class_model(), "sample": ksampler(cfg=cfg, seed=int(cfg))})
    assert host.log.count("far above the 2.5") == before + told
    assert not told or f"cfg {cfg:g} is far above" in host.log


def stock_samplers(host) -> list[str]:
    return host.object_info()["KSampler"]["input"]["required"]["sampler_name"][0]


def test_every_stock_sampler_is_finite(host):
    """In one prompt, over few steps."""
    names = stock_samplers(host)
    graph = class_model()
    for name in names:
        graph[name] = ksampler(sampler_name=name, steps=3)
        graph[f"saved {name}"] = node("SaveLatent", samples=[name, 0], filename_prefix=f"all/{name}")
    assert len(host.run(graph)) == len(names) > 30
    assert_close(run_latent(host, graph, "ddim"), run_latent(host, graph, "euler"))


@pytest.mark.parametrize("side,batch", [(16384, 64), (8192, 4096)])
def test_pictures_that_no_memory_can_hold_are_refused_at_once(host, side, batch):
    graph = class_model(label="5", width=side, height=side, batch=batch)
    graph["sample"] = tim_sampler(steps=10_000)
    refuses(host, graph, "TiMEmptyLatent", f"{batch} x {side}x{side} pixels: need", "draw fewer at once")
