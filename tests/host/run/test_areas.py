"""Conditioning areas: pixels are the model's, and no edge has to fall on a patch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.host import text_graphs
from tests.host.graphs import (
    MODEL_FILE,
    SEED,
    Graph,
    advanced_sampling,
    class_model,
    ksampler,
    node,
    run_latent,
    tim_sampler,
)
from tests.host.test_errors import refuses
from tests.host.text_graphs import prompt, text_model
from tim_model import TiM, load_checkpoint
from tim_model.sampling.noise import draw_noise

BAG, SHIRT = 8, 6


@pytest.fixture(scope="module")
def net() -> TiM:
    return load_checkpoint(MODEL_FILE)


def percent(conditioning: str, width: float, height: float, x: float, y: float) -> dict:
    links = {"conditioning": [conditioning, 0], "strength": 1.0}
    return node("ConditioningSetAreaPercentage", width=width, height=height, x=x, y=y, **links)


def pixels(conditioning: str, width: int, height: int, x: int, y: int) -> dict:
    links = {"conditioning": [conditioning, 0], "strength": 1.0}
    return node("ConditioningSetArea", width=width, height=height, x=x, y=y, **links)


def two_areas(left: dict, right: dict, width: int = 128, height: int = 64, **sampler) -> Graph:
    """The class model with a sandal in the first and a bag in the second of two areas."""
    graph = class_model(width=width, height=height)
    graph["bag"] = node("TiMClassConditioning", model=["model", 0], label=str(BAG))
    graph |= {"left": left, "right": right}
    graph["both"] = node("ConditioningCombine", conditioning_1=["left", 0], conditioning_2=["right", 0])
    return {**graph, "sample": ksampler(positive=["both", 0], **sampler)}


def test_pixels_are_the_class_model_s(host):
    """One pixel a cell: areas of 64 pixels, the least that the node takes."""
    found = run_latent(host, two_areas(pixels("class", 64, 64, 0, 0), pixels("bag", 64, 64, 64, 0)))
    expected = run_latent(host, two_areas(percent("class", 0.5, 1, 0, 0), percent("bag", 0.5, 1, 0.5, 0)))
    assert torch.equal(found, expected)
    same = run_latent(host, two_areas(percent("class", 0.5, 1, 0, 0), percent("class", 0.5, 1, 0.5, 0)))
    assert (found - same)[..., 64:].abs().max() > 0.1 and (found - same)[..., :48].abs().mean() < 0.1


def test_pixels_are_the_text_model_s(host, stack):
    """32 pixels a cell: an area of 8 by 2 cells at (4, 2)."""
    graph = {**text_model(width=512, height=128), "other": prompt("a blue coat")}
    graph["both"] = node("ConditioningCombine", conditioning_1=["positive", 0], conditioning_2=["area", 0])
    graph["sample"] = ksampler(**{**text_graphs.CONDITIONED, "positive": ["both", 0]})
    found = run_latent(host, {**graph, "area": pixels("other", 256, 64, 128, 64)})
    assert torch.equal(found, run_latent(host, {**graph, "area": percent("other", 0.5, 0.5, 0.25, 0.5)}))
    assert not torch.equal(found, run_latent(host, {**graph, "area": percent("other", 0.5, 0.5, 0, 0.5)}))


def test_areas_of_several_runs_are_converted_for_each(host, stack):
    """Two samplers of one conditioning, and two runs of one guider."""
    graph = {**text_model(width=512, height=128), "other": prompt("a blue coat")}
    graph["both"] = node("ConditioningCombine", conditioning_1=["positive", 0], conditioning_2=["area", 0])
    graph["area"] = pixels("other", 256, 64, 128, 64)
    links = {**text_graphs.CONDITIONED, "positive": ["both", 0]}
    alone = run_latent(host, {**graph, "sample": ksampler(**links)})
    zeros = node("LatentMultiply", samples=["first", 0], multiplier=0.0)  # so that the second has to wait
    graph |= {"first": ksampler(**links, seed=1), "zeros": zeros}
    assert torch.equal(run_latent(host, {**graph, "sample": ksampler(**links, latent_image=["zeros", 0])}), alone)
    sigmas = node("BasicScheduler", model=["model", 0], scheduler="simple", steps=4, denoise=1.0)
    euler = node("KSamplerSelect", sampler_name="euler")
    graph |= advanced_sampling(node("CFGGuider", **links, cfg=2.5), euler, sigmas)
    graph |= {"first": graph["sample"], "other noise": node("RandomNoise", noise_seed=1)}
    again = {**graph["sample"]["inputs"], "latent_image": ["zeros", 0]}
    first = {**again, "latent_image": ["latent", 0], "noise": ["other noise", 0]}
    graph |= {"first": node("SamplerCustomAdvanced", **first), "sample": node("SamplerCustomAdvanced", **again)}
    assert torch.equal(run_latent(host, graph), alone)


def test_areas_that_touch_in_pixels_touch_in_cells(host, stack):
    """Edges between cells: both areas turn to the same cell, and no cell is left without a condition."""
    graph = {**text_model(width=256, height=128), "other": prompt("a blue coat")}
    graph["both"] = node("ConditioningCombine", conditioning_1=["left", 0], conditioning_2=["right", 0])
    graph["sample"] = ksampler(**{**text_graphs.CONDITIONED, "positive": ["both", 0]})
    graph |= {"left": pixels("positive", 88, 128, 0, 0), "right": pixels("other", 168, 128, 88, 0)}
    found = run_latent(host, graph)
    graph |= {"left": percent("positive", 0.375, 1, 0, 0), "right": percent("other", 0.625, 1, 0.375, 0)}
    assert torch.equal(found, run_latent(host, graph))


def test_areas_of_a_run_are_converted_once(host):
    """The same conditioning in two samplers."""
    graph = two_areas(pixels("class", 64, 64, 0, 0), pixels("bag", 64, 64, 64, 0))
    alone = run_latent(host, graph)
    graph["first"] = ksampler(positive=["both", 0], steps=1)
    graph["zeros"] = node("LatentMultiply", samples=["first", 0], multiplier=0.0)
    graph["sample"]["inputs"]["latent_image"] = ["zeros", 0]
    assert torch.equal(run_latent(host, graph), alone)


def test_area_of_any_size_is_continued_to_whole_patches(host, net):
    """One step at 30% of 64 pixels: 19 of them, which the network sees as 20, starting anew behind the edge."""
    whole = percent("class", 1, 1, 0, 0)
    graph = two_areas(percent("bag", 0.3, 0.3, 0, 0), whole, 64, 64, steps=1, cfg=1.0)
    found = run_latent(host, graph)
    noise = draw_noise((1, 3, 64, 64), SEED)

    def picture(x: Tensor, label: int) -> Tensor:
        with torch.no_grad():
            return x - net(x, torch.ones(1), torch.zeros(1), torch.tensor([label]))

    area = noise[..., :19, :19]
    part = picture(torch.cat([area, area[..., :1]], -1)[..., [*range(19), 0], :], BAG)
    expected = picture(noise, 5)
    middle = expected[..., :15, :15] + part[..., :15, :15]  # where neither area fades out, halfway between both
    assert (found[..., :15, :15] - middle / 2).abs().max() < 1e-4
    assert (found[..., 19:, 19:] - expected[..., 19:, 19:]).abs().max() < 1e-4


@pytest.mark.parametrize("sampler", [ksampler, tim_sampler])
@pytest.mark.parametrize("x,width", [(0.3, 0.7), (0.01, 0.01), (0.99, 0.5)])
def test_areas_of_any_size_work(host, sampler, x, width):
    graph = two_areas(percent("class", x, 1, 0, 0), percent("bag", width, 1, x, 0), 64, 32)
    graph["sample"] = sampler(positive=["both", 0])
    assert run_latent(host, graph).isfinite().all()


@pytest.mark.parametrize("size", [(3, 5), (21, 9)])
def test_mask_bounds_of_any_size_work(host, size):
    width, height = size
    graph = {
        **class_model(), "nowhere": node("SolidMask", value=0.0, width=32, height=32),
        "spot": node("SolidMask", value=1.0, width=width, height=height),
        "mask": node("MaskComposite", destination=["nowhere", 0], source=["spot", 0], x=11, y=23, operation="add"),
        "bag": node("TiMClassConditioning", model=["model", 0], label=str(BAG)),
        "inside": node(
            "ConditioningSetMask", conditioning=["bag", 0], mask=["mask", 0], strength=1.0,
            set_cond_area="mask bounds",
        ),
        "both": node("ConditioningCombine", conditioning_1=["class", 0], conditioning_2=["inside", 0]),
    }  # fmt: skip
    found = run_latent(host, {**graph, "sample": ksampler(positive=["both", 0])})
    plain = run_latent(host, {**graph, "sample": ksampler()})
    assert found.isfinite().all() and (found - plain).abs().max() > 1e-3


@pytest.mark.parametrize("area", [pixels("bag", 64, 64, 128, 0), percent("bag", 0.5, 1, 1.0, 0)])
def test_area_outside_of_the_picture_is_refused(host, area):
    graph = two_areas(percent("class", 1, 1, 0, 0), area)
    refuses(host, graph, "KSampler", "area begins at x=128, y=0", "128x64 pixels")


def test_area_that_reaches_beyond_the_picture_is_cut(host):
    cut = run_latent(host, two_areas(percent("class", 1, 1, 0, 0), pixels("bag", 64, 64, 64, 0)))
    assert torch.equal(run_latent(host, two_areas(percent("class", 1, 1, 0, 0), pixels("bag", 512, 256, 64, 0))), cut)
