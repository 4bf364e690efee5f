"""Every guider's prompts come to one length, and inputs that TiM cannot use are told."""

from __future__ import annotations

import runpy

import pytest
from safetensors.torch import save_file
from torch import Tensor

from tests.host.graphs import EVERY_STEP, SEED, Graph, advanced_sampling, ksampler, node, schedule, shown
from tests.host.text_graphs import (
    CONDITIONED,
    FOX,
    HEIGHT,
    UGLY,
    WIDTH,
    assert_same_latents,
    gradient,
    load_image,
    prompt,
    run_text_latent,
    text_model,
    text_reference,
)
from tim_model import make_times, sample
from tim_model.text.encoder import pad_features

pytestmark = pytest.mark.usefixtures("stack")
EULER = node("KSamplerSelect", sampler_name="euler")
CAT = "a cat"
LONG = "two blurry dogs that run after a ball in the rain"


@pytest.fixture(scope="module")
def noise(pipeline) -> Tensor:
    return pipeline.noise((WIDTH, HEIGHT), 1, SEED)


def contexts(pipeline, *texts: str) -> list[Tensor]:
    """Features (1,L,D) of each text, L the longest."""
    rows = pipeline.text_encoder.encode(list(texts))
    return list(pad_features(rows, pipeline.text_encoder.pad_feature).split(1))


def guided_by(pipeline, rule, noise: Tensor, *texts: str) -> Tensor:
    """Sample where `rule` makes F of the network's answers to the texts, all of one length."""
    features = contexts(pipeline, *texts)

    def field(x: Tensor, t: Tensor, r: Tensor, context: Tensor) -> Tensor:
        return rule(*(pipeline.net(x, t, r, c) for c in features))

    return sample(field, noise, make_times("uniform", 4), features[0])


def conditioned(**texts: str) -> Graph:
    """The stack and an encoded prompt under each name."""
    return {**text_model(), **{name: prompt(text) for name, text in texts.items()}}


DUAL_CFG = {
    "regular": lambda first, second, null: null + 1.5 * (second - null) + 2.5 * (first - second),
    "nested": lambda first, second, null: null + 1.5 * (second + 2.5 * (first - second) - null),
}


@pytest.mark.parametrize("style", DUAL_CFG)
def test_dual_cfg_with_the_longest_negative(host, pipeline, noise, style):
    graph = conditioned(first=FOX, second=CAT, null=LONG)
    links = {"cond1": ["first", 0], "cond2": ["second", 0], "negative": ["null", 0]}
    guider = node("DualCFGGuider", model=["model", 0], cfg_conds=2.5, cfg_cond2_negative=1.5, style=style, **links)
    found = run_text_latent(host, {**graph, **advanced_sampling(guider, EULER, schedule())}, pipeline)
    assert_same_latents(found, guided_by(pipeline, DUAL_CFG[style], noise, FOX, CAT, LONG))


def perpendicular(cfg: float, scale: float):
    """Perp-Neg: only what of the negative is perpendicular to the positive leads away from it."""

    def rule(positive: Tensor, negative: Tensor, empty: Tensor) -> Tensor:
        p, n = positive - empty, negative - empty
        return empty + cfg * (p - scale * (n - (n * p).sum() / p.norm() ** 2 * p))

    return rule


@pytest.mark.parametrize("cfg", [1.0, 2.5])
def test_perp_neg_guider_with_the_longest_negative(host, pipeline, noise, cfg):
    graph = conditioned(positive=FOX, negative=LONG, empty="")
    guider = node("PerpNegGuider", **CONDITIONED, empty_conditioning=["empty", 0], cfg=cfg, neg_scale=0.8)
    found = run_text_latent(host, {**graph, **advanced_sampling(guider, EULER, schedule())}, pipeline)
    assert_same_latents(found, guided_by(pipeline, perpendicular(cfg, 0.8), noise, FOX, LONG, ""))


def perp_neg(empty: str) -> Graph:
    """The older Perp-Neg, which holds its empty prompt back until the network is at work."""
    graph = conditioned(positive=FOX, negative=UGLY, empty=empty)
    graph["perp"] = node("PerpNeg", model=["model", 0], empty_conditioning=["empty", 0], neg_scale=0.8)
    saved = node("SaveLatent", samples=["sample", 0], filename_prefix="perp")
    return {**graph, "sample": ksampler(**{**CONDITIONED, "model": ["perp", 0]}), "saved": saved}


def test_prompt_that_a_node_encodes_during_the_run(host, pipeline, noise):
    found = run_text_latent(host, perp_neg(""), pipeline)
    assert_same_latents(found, guided_by(pipeline, perpendicular(2.5, 0.8), noise, FOX, UGLY, ""))


def test_longer_prompt_that_a_node_encodes_during_the_run(host):
    ((node_id, text),) = shown(host, perp_neg(LONG))
    assert node_id == "sample"
    assert text == (
        "a prompt of 50 tokens, which a node encodes while sampling, is longer than the 34 of the others: they are not "
        "padded to it, the image is wrong"
    )


def encoded(pooled: bool, *names: str) -> Graph:
    """Prompts of which some come from a node that hands on features and at most pooled ones."""
    graph = {**text_model(FOX, CAT), "sample": ksampler(**CONDITIONED)}
    for name in names:
        graph[name] = node("TestEncode", clip=["clip", 0], text=graph[name]["inputs"]["text"], pooled=pooled)
    return {**graph, "saved": node("SaveLatent", samples=["sample", 0], filename_prefix="encoded")}


@pytest.mark.parametrize("pooled", [True, False])
def test_prompt_of_an_encoder_that_hands_on_little(host, pipeline, pooled):
    """The pooled output tells how to pad it; without, the other prompt does, and the user is told."""
    graph = encoded(pooled, "negative")
    told = [] if pooled else ["padded with that of another prompt"]
    assert [text.rpartition(": ")[2] for _, text in shown(host, graph)] == told
    expected = text_reference(pipeline, pipeline.text([FOX], CAT), guidance_interval=EVERY_STEP)
    assert_same_latents(run_text_latent(host, graph, pipeline), expected)


def test_prompts_that_cannot_be_padded(host):
    ((node_id, text),) = shown(host, encoded(False, "positive", "negative"))
    assert node_id == "sample"
    assert text == (
        "a prompt of 6 tokens came without the feature that pads it to 10, which some node dropped: not padded, the "
        "image is wrong"
    )


def adapter(host) -> str:
    """A tiny T2I adapter, the smallest of ControlNets; it would fail on the picture, which has too many channels."""
    make = runpy.run_path(str(host.host_dir / "comfy" / "t2i_adapter" / "adapter.py"))["Adapter"]
    folder = host.base / "models" / "controlnet"
    folder.mkdir(exist_ok=True)
    weights = make(channels=[8, 16, 32, 32], nums_rb=2, cin=128, ksize=1, sk=True, use_conv=False, xl=False)
    save_file(weights.state_dict(), folder / "adapter.safetensors")
    return "adapter.safetensors"


def controlled(host) -> Graph:
    inputs = {"positive": ["positive", 0], "negative": ["negative", 0], "control_net": ["control_net", 0]}
    apply = node(
        "ControlNetApplyAdvanced", **inputs, image=["image", 0], strength=1.0, start_percent=0.0, end_percent=1.0
    )
    loader = node("ControlNetLoader", control_net_name=adapter(host))
    return {**load_image(host, gradient(), "control"), "control_net": loader, "changed": apply}


def inpainted(host) -> Graph:
    inputs = {"positive": ["positive", 0], "negative": ["negative", 0], "vae": ["vae", 0], "pixels": ["image", 0]}
    changed = node("InpaintModelConditioning", **inputs, mask=["image", 1], noise_mask=False)
    return {**load_image(host, gradient(), "inpainted"), "changed": changed}


def embedded(host) -> Graph:
    return {"changed": node("FluxGuidance", conditioning=["positive", 0], guidance=3.5)}


def referred(host) -> Graph:
    changed = node("ReferenceLatent", conditioning=["positive", 0], latent=["latent", 0])
    return {"changed": changed}


UNUSED = {
    controlled: "ControlNet", inpainted: "concat latent image, concat mask", embedded: "guidance",
    referred: "reference latents",
}  # fmt: skip


@pytest.mark.parametrize("graph", UNUSED)
def test_inputs_without_use_are_told_once(host, pipeline, graph):
    told = f"TiM models cannot use what the conditioning holds beside the prompt: {UNUSED[graph]}"
    sampling = ksampler(**{**CONDITIONED, "positive": ["changed", 0]})
    saved = node("SaveLatent", samples=["sample", 0], filename_prefix="unused")
    nodes, printed = {**text_model(), **graph(host), "sample": sampling, "saved": saved}, len(host.log)
    assert shown(host, nodes) == [("sample", told)]
    assert host.log[printed:].count(told) == 1
    assert_same_latents(run_text_latent(host, nodes, pipeline), text_reference(pipeline, guidance_interval=EVERY_STEP))


def test_usual_conditioning_says_nothing(host):
    graph = {**text_model(), "zero": node("ConditioningZeroOut", conditioning=["negative", 0])}
    graph["early"] = node("ConditioningSetTimestepRange", conditioning=["positive", 0], start=0.0, end=0.9)
    graph["half"] = node(
        "ConditioningSetAreaPercentage", conditioning=["early", 0], width=0.5, height=1.0, x=0.0, y=0.0, strength=1.0
    )
    graph["mask"] = node("SolidMask", value=1.0, width=WIDTH, height=HEIGHT)
    graph["masked"] = node(
        "ConditioningSetMask", conditioning=["positive", 0], mask=["mask", 0], strength=1.0, set_cond_area="default"
    )
    graph["both"] = node("ConditioningCombine", conditioning_1=["half", 0], conditioning_2=["masked", 0])
    graph["sample"] = ksampler(**{**CONDITIONED, "positive": ["both", 0], "negative": ["zero", 0]})
    assert shown(host, {**graph, "saved": node("SaveLatent", samples=["sample", 0], filename_prefix="quiet")}) == []
