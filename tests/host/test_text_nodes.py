"""Stock nodes on the CLIP of Load TiM Text Encoder: what they make of the features is what the network gets."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor

from tests.host.graphs import (
    EVERY_STEP,
    SEED,
    Graph,
    advanced_sampling,
    custom_sampling,
    guider,
    ksampler,
    node,
    schedule,
    tim_sampler,
)
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
from tim_model import make_times, sample
from tim_model.pipeline import Condition
from tim_model.text.encoder import pad_features

pytestmark = pytest.mark.usefixtures("stack")
LONG = "a very long negative prompt " * 4


@pytest.fixture(scope="module")
def noise(pipeline) -> Tensor:
    return pipeline.noise((WIDTH, HEIGHT), 1, SEED)


def features(pipeline, text: str) -> Tensor:
    """Of the real tokens, (L, D)."""
    return pipeline.text_encoder.encode([text])[0]


def padded(pipeline, *rows: Tensor) -> list[Tensor]:
    """Each (1, L, D), L the longest."""
    return list(pad_features(rows, pipeline.text_encoder.pad_feature).split(1))


def unguided(host, pipeline, graph: Graph) -> Tensor:
    """Sample from the graph's node "changed" alone."""
    sampling = tim_sampler(**{**CONDITIONED, "positive": ["changed", 0]}, cfg=1.0)
    return run_text_latent(host, {**text_model(), **graph, "sample": sampling}, pipeline)


def assert_features(host, pipeline, graph: Graph, expected: Tensor) -> None:
    """The node "changed" leads the network as the features `expected` (L, D) do."""
    condition = Condition(expected[None], expected[None])
    assert_same_latents(unguided(host, pipeline, graph), text_reference(pipeline, condition, cfg=1.0))


EULER = node("KSamplerSelect", sampler_name="euler")
SAMPLING = {
    "KSampler": {"sample": ksampler(**CONDITIONED)},
    "SamplerCustom": custom_sampling(EULER, schedule()),
    "SamplerCustomAdvanced": advanced_sampling(node("CFGGuider", **CONDITIONED, cfg=2.5), EULER, schedule()),
    "TiMGuider": advanced_sampling(guider(**CONDITIONED, guidance_low=-1.0, guidance_high=2.0), EULER, schedule()),
    "TiMSampler": {"sample": tim_sampler(**CONDITIONED, guidance_low=-1.0, guidance_high=2.0)},
}
SAMPLING["SamplerCustom"]["sample"]["inputs"].update(CONDITIONED)


@pytest.mark.parametrize("positive,negative", [(FOX, UGLY), (UGLY, FOX), (FOX, ""), (FOX, FOX)])
@pytest.mark.parametrize("nodes", SAMPLING)
def test_prompts_of_different_lengths(host, pipeline, nodes, positive, negative):
    found = run_text_latent(host, {**text_model(positive, negative), **SAMPLING[nodes]}, pipeline)
    condition = pipeline.text([positive], negative)
    assert_same_latents(found, text_reference(pipeline, condition, guidance_interval=EVERY_STEP))


UNGUIDED = {
    "KSampler": {"sample": ksampler(**CONDITIONED, cfg=1.0)},
    "TiMSampler": {"sample": tim_sampler(**CONDITIONED, cfg=1.0)},
    "BasicGuider": advanced_sampling(
        node("BasicGuider", model=["model", 0], conditioning=["positive", 0]), EULER, schedule()
    ),
}


@pytest.mark.parametrize("nodes", UNGUIDED)
def test_unused_negative_pads_nothing(host, pipeline, nodes):
    found = run_text_latent(host, {**text_model(FOX, LONG), **UNGUIDED[nodes]}, pipeline)
    alone = features(pipeline, FOX)[None]
    assert_same_latents(found, text_reference(pipeline, Condition(alone, alone), cfg=1.0))


TEXTS = {
    "weight": "a (red:1.2) fox, [blurry], {cat|dog}, embedding:name",
    "newline": "a fox\non two lines\twith a tab",
    "unicode": "un zorro rojo, être, 狐狸, 🦊",
    "backslash": r"a \(red\) fox \n",
    "spaces": "  a  fox  ",
    "empty": "",
    "256 tokens": "x" * 255,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_is_taken_as_written(host, pipeline, text):
    assert_features(host, pipeline, {"changed": prompt(text)}, features(pipeline, text))


def test_parentheses_matter(pipeline):
    assert len(features(pipeline, "(fox:1.2)")) > len(features(pipeline, "fox"))


def test_long_prompt_is_cut_with_a_warning(host, pipeline):
    text = "one hundred " * 40
    assert_features(host, pipeline, {"changed": prompt(text)}, features(pipeline, text))
    assert len(features(pipeline, text)) == 256
    assert "caption of 481 tokens cut to 256, the last 225 were dropped: 'one hundred" in host.log


def test_concat(host, pipeline):
    concat = node("ConditioningConcat", conditioning_to=["positive", 0], conditioning_from=["negative", 0])
    expected = torch.cat([features(pipeline, FOX), features(pipeline, UGLY)])
    assert_features(host, pipeline, {"changed": concat}, expected)


def test_concat_against_a_shorter_prompt(host, pipeline):
    """The joined features keep their pad feature, so a shorter negative is padded to them."""
    concat = node("ConditioningConcat", conditioning_to=["positive", 0], conditioning_from=["negative", 0])
    graph = {**text_model(), "joined": concat, "sample": tim_sampler(**{**CONDITIONED, "positive": ["joined", 0]})}
    joined = torch.cat([features(pipeline, FOX), features(pipeline, UGLY)])
    condition = Condition(*padded(pipeline, joined, features(pipeline, UGLY)))
    assert_same_latents(run_text_latent(host, graph, pipeline), text_reference(pipeline, condition))


def test_average(host, pipeline):
    """The stock node itself cuts or fills with zeros what is averaged in."""
    average = node(
        "ConditioningAverage", conditioning_to=["positive", 0], conditioning_from=["negative", 0],
        conditioning_to_strength=0.7,
    )  # fmt: skip
    to = features(pipeline, FOX)
    assert_features(host, pipeline, {"changed": average}, 0.7 * to + 0.3 * features(pipeline, UGLY)[: len(to)])


def test_zero_out(host, pipeline):
    zero = node("ConditioningZeroOut", conditioning=["positive", 0])
    assert_features(host, pipeline, {"changed": zero}, torch.zeros_like(features(pipeline, FOX)))


def test_zero_out_as_negative(host, pipeline):
    """As features of its length, that is, and padded like those."""
    zero = node("ConditioningZeroOut", conditioning=["short", 0])
    sampling = tim_sampler(**{**CONDITIONED, "negative": ["zero", 0]})
    graph = {**text_model(), "short": prompt("fox"), "zero": zero, "sample": sampling}
    zeros = torch.zeros_like(features(pipeline, "fox"))
    condition = Condition(*padded(pipeline, features(pipeline, FOX), zeros))
    assert_same_latents(run_text_latent(host, graph, pipeline), text_reference(pipeline, condition))


def test_combine(host, pipeline, noise):
    """The mean of both predictions."""
    combine = node("ConditioningCombine", conditioning_1=["positive", 0], conditioning_2=["negative", 0])
    first, second = pipeline.text([FOX], UGLY)

    def mean(x: Tensor, t: Tensor, r: Tensor, context: Tensor) -> Tensor:
        return (pipeline.net(x, t, r, first) + pipeline.net(x, t, r, second)) / 2

    expected = sample(mean, noise, make_times("uniform", 4), first)
    assert_same_latents(unguided(host, pipeline, {"changed": combine}), expected)


def test_timestep_range(host, pipeline, noise):
    """Two prompts, one after the other: as a switch of context by hand at t = 0.5."""

    def part(name: str, start: float, end: float) -> dict:
        return node("ConditioningSetTimestepRange", conditioning=[name, 0], start=start, end=end)

    graph = {"early": part("positive", 0.0, 0.5), "late": part("negative", 0.5, 1.0)}
    graph["changed"] = node("ConditioningCombine", conditioning_1=["early", 0], conditioning_2=["late", 0])
    sampling = tim_sampler(**{**CONDITIONED, "positive": ["changed", 0]}, cfg=1.0, steps=5)
    found = run_text_latent(host, {**text_model(), **graph, "sample": sampling}, pipeline)
    early, late = pipeline.text([FOX], UGLY)

    def switched(x: Tensor, t: Tensor, r: Tensor, context: Tensor) -> Tensor:
        return pipeline.net(x, t, r, early if t[0] > 0.5 else late)

    assert_same_latents(found, sample(switched, noise, make_times("uniform", 5), early))


def test_saved_clip_loads(host, pipeline, stack):
    """CLIP Save writes one file that needs no others beside it."""
    save = node("CLIPSave", clip=["clip", 0], filename_prefix="clip/saved")
    host.run({"clip": text_model()["clip"], "save": save})
    (saved,) = (host.base / "output" / "clip").glob("saved*.safetensors")
    (stack / "text_encoders").mkdir(exist_ok=True)
    shutil.copy(saved, stack / "text_encoders" / "saved.safetensors")
    graph = {"saved_clip": node("TiMTextEncoderLoader", text_encoder_name="saved.safetensors")}
    graph["changed"] = prompt(UGLY, clip="saved_clip")
    assert_features(host, pipeline, graph, features(pipeline, UGLY))


def test_packed_file_loads(host, pipeline, stack):
    """What `python -m tim_model convert` makes of the folder."""
    from tim_model.text.encoder import pack_text_encoder

    pack_text_encoder(stack / "text_encoders" / "gemma-3-1b-it", stack / "text_encoders" / "packed.safetensors")
    graph = {"packed_clip": node("TiMTextEncoderLoader", text_encoder_name="packed.safetensors")}
    graph["changed"] = prompt(UGLY, clip="packed_clip")
    assert_features(host, pipeline, graph, features(pipeline, UGLY))


def test_encoder_works_after_it_was_unloaded(host, pipeline):
    assert_features(host, pipeline, {"changed": prompt("first")}, features(pipeline, "first"))
    host.free()
    assert_features(host, pipeline, {"changed": prompt("second")}, features(pipeline, "second"))
