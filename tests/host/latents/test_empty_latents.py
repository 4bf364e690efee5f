"""Empty latents of other nodes draw the pixels that they were asked for, as TiM Empty Latent does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.host import graphs, text_graphs
from tests.host.graphs import class_model, ksampler, node, run_latent, tim_sampler
from tests.host.test_errors import refuses
from tests.host.text_graphs import text_model

STOCK = ["EmptyLatentImage", "EmptySD3LatentImage"]  # of 4 and of 16 channels
TRANSITIONS = node("TiMTransitionSampler", stochasticity=0.0, velocity=False)


def resizes(host) -> bool:
    """Whether this host itself resizes empty latents, before the pack sees them."""
    return "downscale_ratio_spacial" in (host.host_dir / "comfy" / "sample.py").read_text(encoding="utf-8")


def empty(kind: str, width: int, height: int, batch: int = 1) -> dict:
    return node(kind, width=width, height=height, batch_size=batch)


def advanced(**changes) -> dict:
    settings = {"add_noise": "enable", "noise_seed": graphs.SEED, "steps": 4, "cfg": 2.5, "sampler_name": "euler"}
    settings |= {
        "scheduler": "simple",
        "start_at_step": 0,
        "end_at_step": 10000,
        "return_with_leftover_noise": "disable",
    }
    return node("KSamplerAdvanced", **graphs.CONDITIONED, latent_image=["latent", 0], **{**settings, **changes})


SAMPLERS = {"KSampler": ksampler, "KSamplerAdvanced": advanced, "TiMSampler": tim_sampler}


@pytest.mark.parametrize("kind", STOCK)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_class_model(host, sampler, kind):
    """Of one pixel a cell, in patches of 4 cells: more cells than the stock latent has."""
    graph = {**class_model(width=64, height=32, batch=2), "sample": SAMPLERS[sampler]()}
    found = run_latent(host, {**graph, "latent": empty(kind, 64, 32, 2)})
    assert torch.equal(found, run_latent(host, graph)) and found.shape == (2, 3, 32, 64)


@pytest.mark.parametrize("kind", STOCK)
@pytest.mark.parametrize("sampler", ["ksampler", "tim_sampler", "custom"])
def test_text_model(host, stack, sampler, kind):
    """Of 32 pixels a cell: fewer cells."""
    graph = text_model(width=128, height=64, batch=2)
    if sampler == "custom":
        links = {**text_graphs.CONDITIONED, "latent_image": ["latent", 0], "cfg": 2.5, "noise_seed": graphs.SEED}
        euler = node("KSamplerSelect", sampler_name="euler")
        sampling = node("SamplerCustom", add_noise=True, sampler=["euler", 0], sigmas=["sigmas", 0], **links)
        graph |= {"euler": euler, "sigmas": graphs.schedule(), "sample": sampling}
    else:
        graph["sample"] = getattr(graphs, sampler)(**text_graphs.CONDITIONED)
    found = run_latent(host, {**graph, "latent": empty(kind, 128, 64, 2)})
    assert torch.equal(found, run_latent(host, graph)) and found.shape == (2, 32, 2, 4)


CHANGED = {
    "repeated": node("RepeatLatentBatch", samples=["empty", 0], amount=2),
    "joined": node("LatentBatch", samples1=["empty", 0], samples2=["empty", 0]),
    "turned": node("LatentRotate", samples=["empty", 0], rotation="90 degrees"),
    "mirrored": node("LatentFlip", samples=["empty", 0], flip_method="x-axis: vertically"),
    "enlarged": node("LatentUpscaleBy", samples=["empty", 0], upscale_method="nearest-exact", scale_by=2.0),
    "smoothly enlarged": node("LatentUpscaleBy", samples=["empty", 0], upscale_method="bilinear", scale_by=2.0),
}


@pytest.mark.parametrize("change", CHANGED)
def test_our_own_empty_latent_keeps_its_size_in_the_hands_of_other_nodes(host, stack, change):
    graph = text_model(width=128, height=64)
    graph |= {"empty": graph["latent"], "latent": CHANGED[change], "sample": ksampler(**text_graphs.CONDITIONED)}
    assert run_latent(host, graph).shape == run_latent(host, graph, "latent").shape


def test_zeroed_latent_of_a_sampler_keeps_its_size(host, stack):
    graph = text_model(width=128, height=64)
    graph |= {"first": ksampler(**text_graphs.CONDITIONED, steps=1)}
    graph["zeros"] = node("LatentMultiply", samples=["first", 0], multiplier=0.0)
    graph["sample"] = ksampler(**text_graphs.CONDITIONED, latent_image=["zeros", 0])
    assert run_latent(host, graph).shape == (1, 32, 2, 4)


def test_latent_that_was_made_for_pixels_keeps_its_size(host):
    """A stock node whose latents have the class model's 3 channels of one pixel a cell."""
    graph = {**class_model(width=64, height=32), "latent": empty("EmptyChromaRadianceLatentImage", 64, 32)}
    assert run_latent(host, {**graph, "sample": ksampler()}).shape == (1, 3, 32, 64)


def test_sizes_that_the_model_does_not_make_are_rounded_and_told(host, stack):
    graph = text_model(width=96, height=160)
    graph["sample"] = ksampler(**text_graphs.CONDITIONED)
    found = run_latent(host, {**graph, "latent": empty("EmptyLatentImage", 88, 160)})
    assert torch.equal(found, run_latent(host, graph))
    if not resizes(host):
        assert "meant for 88x160 pixels, this TiM model makes multiples of 32: drawing 96x160" in host.log


@pytest.mark.parametrize("kind", ["EmptyChromaRadianceLatentImage", "EmptyFlux2LatentImage"])
def test_other_ratios(host, stack, kind):
    """Pixels, and 128 channels of 16 pixels a cell: no host knows their ratio."""
    graph = text_model(width=128, height=64, batch=2)
    graph["sample"] = ksampler(**text_graphs.CONDITIONED)
    found = run_latent(host, {**graph, "latent": empty(kind, 128, 64, 2)})
    assert torch.equal(found, run_latent(host, graph)) and found.shape == (2, 32, 2, 4)


@pytest.mark.parametrize("sampler", [ksampler, tim_sampler])
@pytest.mark.parametrize("kind", ["EmptyHunyuanLatentVideo", "EmptyCosmosLatentVideo"])
def test_one_frame_of_a_video_is_a_picture(host, stack, sampler, kind):
    graph = {**text_model(width=128, height=64, batch=2), "sample": sampler(**text_graphs.CONDITIONED)}
    frame = node(kind, width=128, height=64, length=1, batch_size=2)
    found = run_latent(host, {**graph, "latent": frame})
    assert torch.equal(found, run_latent(host, graph)) and found.shape == (2, 32, 2, 4)


def other_pack(channels: int, ratio: int, **sides: Any) -> dict:
    return node("TestEmptyLatent", channels=channels, ratio=ratio, **{"width": 128, "height": 64, **sides})


@pytest.mark.parametrize("channels,ratio", [(4, 8), (16, 8), (32, 32)])
def test_another_pack_s_node_is_known_by_its_width_and_height(host, stack, channels, ratio):
    """Also where its latent has the model's channels, or as many as go into them, and no host knows its ratio."""
    graph = {**text_model(width=128, height=64), "sample": ksampler(**text_graphs.CONDITIONED)}
    told = host.log.count("leaves no doubt")
    found = run_latent(host, {**graph, "latent": other_pack(channels, ratio)})
    assert torch.equal(found, run_latent(host, graph)) and host.log.count("leaves no doubt") == told


def test_a_size_that_is_guessed_is_told(host, stack):
    """Where width and height come from another node, older hosts leave nothing to know the ratio by."""
    graph = {**text_model(), "width": node("PrimitiveInt", value=128), "sample": ksampler(**text_graphs.CONDITIONED)}
    graph |= {"latent": other_pack(32, 32, width=["width", 0]), **text_graphs.decoded()}
    ((name, text),) = [*graphs.shown(host, graph), ("", "")][:1]
    line = "taken for 32x16 pixels, 8 a cell as most nodes make it, not for 128x64, 32 a cell: TiM Empty Latent"
    assert (name == "sample" and line in text) != resizes(host)


@pytest.mark.parametrize("kind", ["EmptySD3LatentImage", "EmptyFlux2LatentImage"])
def test_noise_mask_follows_the_size(host, stack, kind):
    """Where it is 0, the empty latent stays."""
    graph = {**text_model(width=128, height=64), "sample": ksampler(**text_graphs.CONDITIONED)}
    graph |= {"nowhere": node("SolidMask", value=0.0, width=128, height=64)}
    graph |= {"half": node("SolidMask", value=1.0, width=64, height=64)}
    graph["mask"] = node("MaskComposite", destination=["nowhere", 0], source=["half", 0], x=64, y=0, operation="add")
    graph |= {"whole": graph["latent"]}
    graph["latent"] = node("SetLatentNoiseMask", samples=["whole", 0], mask=["mask", 0])
    found = run_latent(host, {**graph, "whole": empty(kind, 128, 64)})
    assert torch.equal(found, run_latent(host, graph)) and found.shape == (1, 32, 2, 4)
    assert not found[..., :2].any() and found[..., 2:].any()


@pytest.mark.parametrize("sampler", [ksampler, tim_sampler])
def test_pictures_taken_out_of_a_batch(host, stack, sampler):
    """They keep the noise of their place in it."""
    graph = {**text_model(width=128, height=64, batch=3), "sample": sampler(**text_graphs.CONDITIONED)}
    whole = run_latent(host, graph)
    graph |= {"batch": empty("EmptyLatentImage", 128, 64, 3)}
    graph["latent"] = node("LatentFromBatch", samples=["batch", 0], batch_index=1, length=2)
    assert (run_latent(host, graph) - whole[1:]).abs().max() < 1e-4


def test_noise_that_cannot_be_drawn_again_is_refused(host, stack):
    """Noise of another node."""
    if resizes(host):
        pytest.skip("this host resizes the latent before it draws the noise")
    graph = text_model()
    graph |= graphs.advanced_sampling(graphs.guider(**text_graphs.CONDITIONED), TRANSITIONS, graphs.schedule())
    graph |= {"latent": empty("EmptyLatentImage", 128, 64), "noise": node("TestNoise", seed=3)}
    refuses(host, graph, "SamplerCustomAdvanced", "128x64 pixels", "512x256", "TiM Empty Latent at 128x64")


def test_without_noise_the_size_is_right_too(host, stack):
    graph = {**text_model(), "latent": empty("EmptyLatentImage", 128, 64)}
    sampling = {**advanced(add_noise="disable")["inputs"], **text_graphs.CONDITIONED}
    graph["sample"] = node("KSamplerAdvanced", **sampling)
    assert run_latent(host, graph).shape == (1, 32, 2, 4)
    assert "there is nothing to draw from" in host.log


def test_video_latent_is_refused(host):
    video = node("EmptyHunyuanLatentVideo", width=64, height=64, length=5, batch_size=1)
    refuses(
        host, {**class_model(), "latent": video, "sample": ksampler()}, "KSampler", "5 dimensions", "TiM Empty Latent"
    )


def test_sizes_far_beyond_the_model_s_own_are_told(host):
    run_latent(host, {**class_model(width=64, height=64), "sample": ksampler(steps=1)})
    assert "64x64 pixels are far beyond this model's 32x32, 4 times the area" in host.log


def test_lines_are_shown_on_the_node(host, stack):
    graph = {**text_model(width=512, height=512, batch=1), "sample": ksampler(**text_graphs.CONDITIONED, steps=1)}
    ((name, text),) = graphs.shown(host, {**graph, **text_graphs.decoded()})
    assert name == "sample" and "512x512 pixels are far beyond this model's 256x256, 4 times the area" in text


def test_upscale_latent_is_told(host, stack):
    """It counts 8 pixels a cell: in front of a sampler, and of the VAE."""
    graph = {**text_model(width=128, height=128), "sample": ksampler(**text_graphs.CONDITIONED, steps=1)}
    settings = {"upscale_method": "nearest-exact", "crop": "disabled"}
    graph["up"] = node("LatentUpscale", samples=["sample", 0], width=64, height=72, **settings)
    graph["again"] = ksampler(**text_graphs.CONDITIONED, latent_image=["up", 0], steps=1, denoise=0.5)
    line = "Upscale Latent counts 8 pixels a cell, this model's cells have 32: what it is set to comes out 4 times"
    told = host.log.count(line)
    host.run({**graph, **text_graphs.decoded("up")})
    assert host.log.count(line) == told + 1 and "64x72 as 256x288" in host.log
    run_latent(host, graph, "again")
    assert host.log.count(line) == told + 2
