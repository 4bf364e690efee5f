"""Nodes for the prompts of other models' text encoders work on ours, which reads one prompt and no pictures."""

from __future__ import annotations

import pytest
import torch

from tests.host.graphs import node, run_latent, shown, tim_sampler
from tests.host.test_errors import refuses
from tests.host.text_graphs import CONDITIONED, FOX, decoded, gradient, load_image, text_model

CLIP = ["clip", 0]
SIZES = {name: 1024 for name in ("width", "height", "target_width", "target_height")}
ENCODERS = {
    "flux": lambda first, last: node("CLIPTextEncodeFlux", clip=CLIP, clip_l=first, t5xxl=last, guidance=3.5),
    "sd3": lambda first, last: node(
        "CLIPTextEncodeSD3", clip=CLIP, clip_g=first, clip_l=first, t5xxl=last, empty_padding="none"
    ),
    "sd3 padded": lambda first, last: node(
        "CLIPTextEncodeSD3", clip=CLIP, clip_g=first, clip_l=first, t5xxl=last, empty_padding="empty_prompt"
    ),
    "sdxl": lambda first, last: node(
        "CLIPTextEncodeSDXL", clip=CLIP, text_g=first, text_l=last, crop_w=0, crop_h=0, **SIZES
    ),
    "hidream": lambda first, last: node(
        "CLIPTextEncodeHiDream", clip=CLIP, clip_g=first, clip_l=first, t5xxl=first, llama=last
    ),
    "hunyuan": lambda first, last: node("CLIPTextEncodeHunyuanDiT", clip=CLIP, bert=first, mt5xl=last),
}
OTHERS = "the others are left out"

pytestmark = pytest.mark.usefixtures("stack")


def graph(**nodes) -> dict:
    return {**text_model(), **nodes, "sample": tim_sampler(**CONDITIONED)}


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("prompts,others", [((FOX, FOX), 0), ((FOX, ""), 0), (("", FOX), 0), (("a shoe", FOX), 1)])
def test_encoder_of_several_prompts(host, kind, prompts, others):
    """Equal prompts, all but one of them empty, and different ones: the last, which is told."""
    told = host.log.count(OTHERS)
    found = run_latent(host, graph(positive=ENCODERS[kind](*prompts)))
    assert torch.equal(found, run_latent(host, graph()))
    assert host.log.count(OTHERS) == told + others


@pytest.mark.parametrize("kind", ENCODERS)
def test_empty_prompts_are_the_empty_prompt(host, kind):
    found = run_latent(host, graph(negative=ENCODERS[kind]("", "")))
    assert torch.equal(found, run_latent(host, {**graph(), "negative": node("CLIPTextEncode", clip=CLIP, text="")}))


def test_pictures_in_a_prompt_are_told(host):
    images = load_image(host, gradient(), "prompt")
    positive = node("TextEncodeQwenImageEdit", clip=CLIP, prompt=FOX, image=["image", 0])
    found = graph(image=images["image"], positive=positive)
    assert torch.equal(run_latent(host, found), run_latent(host, graph()))
    again = {**found, "positive": node("TextEncodeQwenImageEdit", clip=CLIP, prompt=FOX + " ", image=["image", 0])}
    assert ("positive", "TiM's text encoder reads text alone, it leaves out: images") in shown(
        host, {**again, **decoded()}
    )


def test_text_that_our_encoder_should_write_is_refused(host):
    if "TextGenerate" not in host.object_info():
        pytest.skip("this host writes no text")
    settings = {"prompt": FOX, "max_length": 8, "sampling_mode": "off"}
    written = node("TextGenerate", clip=CLIP, **settings)
    positive = node("CLIPTextEncode", clip=CLIP, text=["written", 0])
    refuses(host, graph(written=written, positive=positive), "TextGenerate", "give the prompt itself")
