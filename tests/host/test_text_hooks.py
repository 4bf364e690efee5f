"""A LoRA on the text encoder, loaded or as a hook: prompts keep its pad feature on their way, or somebody says so."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.host.graphs import EVERY_STEP, SEED, Graph, ksampler, node, shown
from tests.host.text_graphs import (
    CONDITIONED,
    FOX,
    HEIGHT,
    UGLY,
    WIDTH,
    assert_same_latents,
    prompt,
    run_text_latent,
    text_model,
    text_reference,
)
from tim_model import TiM, make_times, sample
from tim_model.pipeline import Condition
from tim_model.text.encoder import TextEncoder, pad_features

pytestmark = pytest.mark.usefixtures("stack")
CAT = "a cat"
LONG = "two blurry dogs that run after a ball in the rain"
STRENGTH = 0.8
ADAPTED = ("blocks.0.", "layers.0.")  # of the network, of the text encoder


@pytest.fixture(scope="module")
def noise(pipeline) -> Tensor:
    return pipeline.noise((WIDTH, HEIGHT), 1, SEED)


@dataclass(frozen=True)
class Adapted:
    """A LoRA of the network and of the text encoder in the host, and both with it merged."""

    file: str
    net: TiM
    text_encoder: TextEncoder

    def condition(self, positive: str, negative: str) -> Condition:
        pad = self.text_encoder.pad_feature
        return Condition(*pad_features(self.text_encoder.encode([positive, negative]), pad).split(1))


@pytest.fixture(scope="module")
def adapted(host, pipeline) -> Adapted:
    generator = torch.Generator().manual_seed(3)
    net, model = copy.deepcopy(pipeline.net), copy.deepcopy(pipeline.text_encoder.model)
    factors = {}
    for prefix, module in (("diffusion_model.", net), ("text_encoders.model.", model)):
        for name, weight in module.named_parameters():
            if weight.ndim == 2 and name.startswith(ADAPTED):
                down = 0.2 * torch.randn(2, weight.shape[1], generator=generator)
                up = 0.2 * torch.randn(weight.shape[0], 2, generator=generator)
                layer = prefix + name.removesuffix(".weight")
                factors |= {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
                weight.data.add_(up @ down, alpha=STRENGTH)
    save_file(factors, host.base / "models" / "loras" / "both.safetensors")
    encoder = TextEncoder(pipeline.text_encoder.tokenizer, model)
    assert (encoder.pad_feature - pipeline.text_encoder.pad_feature).norm() > 0.1
    return Adapted("both.safetensors", net, encoder)


def hooked(lora: str, **texts: str) -> Graph:
    """Prompts of a CLIP on which the LoRA is a hook, and which hand it on to the network."""
    graph = {**text_model(), **{name: prompt(text, "hooked") for name, text in texts.items()}}
    graph["hook"] = node("CreateHookLora", lora_name=lora, strength_model=STRENGTH, strength_clip=STRENGTH)
    graph["hooked"] = node("SetClipHooks", clip=["clip", 0], hooks=["hook", 0], apply_to_conds=True, schedule_clip=True)
    return {**graph, "sample": ksampler(**CONDITIONED)}


def loaded(lora: str, **texts: str) -> Graph:
    """The same by the usual loader."""
    graph = {**text_model(), **{name: prompt(text, "lora") for name, text in texts.items()}}
    inputs = {"model": ["model", 0], "clip": ["clip", 0], "lora_name": lora}
    graph["lora"] = node("LoraLoader", **inputs, strength_model=STRENGTH, strength_clip=STRENGTH)
    for name in texts:
        graph[name]["inputs"]["clip"] = ["lora", 1]
    return {**graph, "sample": ksampler(**{**CONDITIONED, "model": ["lora", 0]})}


@pytest.mark.parametrize("positive,negative", [(FOX, UGLY), (LONG, ""), (FOX, FOX)])
@pytest.mark.parametrize("graph", [hooked, loaded])
def test_lora_on_the_text_encoder(host, pipeline, noise, adapted, graph, positive, negative):
    found = run_text_latent(host, graph(adapted.file, positive=positive, negative=negative), pipeline)
    condition = adapted.condition(positive, negative)
    options = {"cfg": 2.5, "guidance_interval": EVERY_STEP}
    assert_same_latents(found, sample(adapted.net, noise, make_times("uniform", 4), *condition, **options))
    unchanged = text_reference(pipeline, pipeline.text([positive], negative), guidance_interval=EVERY_STEP)
    assert (found - unchanged).abs().max() > 0.01


def test_prompts_of_a_hook_that_changes_on_the_way(host, pipeline, noise, adapted):
    """The LoRA ends at half of the way: from there on the prompts are those of the plain encoder."""
    graph = hooked(adapted.file, positive=FOX, negative=UGLY)
    graph["on"] = node("CreateHookKeyframe", strength_mult=1.0, start_percent=0.0)
    graph["off"] = node("CreateHookKeyframe", strength_mult=0.0, start_percent=0.5, prev_hook_kf=["on", 0])
    graph["scheduled"] = node("SetHookKeyframes", hooks=["hook", 0], hook_kf=["off", 0])
    graph["hooked"]["inputs"]["hooks"] = ["scheduled", 0]
    graph["sample"]["inputs"]["steps"] = 5  # none of them starts at 0.5
    found = run_text_latent(host, graph, pipeline)
    (on, on_null), (off, off_null) = adapted.condition(FOX, UGLY), pipeline.text([FOX], UGLY)

    def field(x: Tensor, t: Tensor, r: Tensor, context: Tensor) -> Tensor:
        net, first, null = (adapted.net, on, on_null) if t > 0.5 else (pipeline.net, off, off_null)
        F, F_null = net(x, t, r, first), net(x, t, r, null)
        return F_null + 2.5 * (F - F_null)

    assert_same_latents(found, sample(field, noise, make_times("uniform", 5), on))


def zeroed(lora: str, *names: str) -> Graph:
    """Hooked prompts of which some went through Zero Out, which leaves nothing of their pad feature."""
    graph = hooked(lora, positive=FOX, negative=CAT)
    for name in names:
        graph[f"zero {name}"] = node("ConditioningZeroOut", conditioning=[name, 0])
        graph["sample"]["inputs"][name] = [f"zero {name}", 0]
    return {**graph, "saved": node("SaveLatent", samples=["sample", 0], filename_prefix="zeroed")}


def test_prompt_without_pad_feature_is_padded_with_the_other_one(host, pipeline, noise, adapted):
    graph = zeroed(adapted.file, "negative")
    ((node_id, text),) = shown(host, graph)
    assert node_id == "sample"
    assert text == (
        "a prompt of 6 tokens came without the feature that pads it to 10, which some node dropped: padded with that "
        "of another prompt"
    )
    condition = adapted.condition(FOX, CAT)
    condition.null_context[:, :6] = 0
    options = {"cfg": 2.5, "guidance_interval": EVERY_STEP}
    found = run_text_latent(host, graph, pipeline)
    assert_same_latents(found, sample(adapted.net, noise, make_times("uniform", 4), *condition, **options))
