"""The bundled text-to-image stack: the host finds its files, and draws with them what `TiMPipeline` draws."""

from __future__ import annotations

import json

import pytest
import torch

from devtools import demo
from tests.host.graphs import EVERY_STEP, SEED, ksampler, tim_sampler
from tests.host.test_objects import inputs
from tests.host.text_graphs import (
    CONDITIONED,
    assert_same_latents,
    assert_same_pictures,
    decoded,
    gradient,
    load_image,
    loaders,
    run_text_latent,
    text_model,
    text_reference,
    to_tensor,
)
from tim_model import make_times
from training.evaluation.bundled import BUNDLED
from training.scenes.captions import all_words

LOADERS = {"TiMModelLoader": "model", "TiMTextEncoderLoader": "text_encoder", "TiMVAELoader": "vae"}
STACK = loaders(*(BUNDLED[part].name for part in LOADERS.values()))
SAMPLERS = {"TiM Sampler": (tim_sampler, (0.0, 1.0)), "KSampler": (ksampler, EVERY_STEP)}
PROMPT = "a trouser left of a coat"
SIZE = 64, 64
TOLERANCE = 1e-5


@pytest.mark.parametrize("node_type", LOADERS)
def test_loader_starts_with_the_file(host, stack, node_type):
    """Whatever else there is, so that a graph of new loaders fits together."""
    first, *_ = inputs(host.object_info()[node_type], "required")
    assert len(first["options"]) > 1
    assert first["options"][0] == BUNDLED[LOADERS[node_type]].name


def test_size_0_is_the_native_size(host, demo_pipeline):
    """In TiM Empty Latent, for one side too, and in TiM High-Res Sampler."""
    native = demo_pipeline.default_size
    shapes = {}
    for size in ((0, 0), (0, 32), native):
        graph = {**text_model(PROMPT, "", *size), **STACK, "sample": tim_sampler(**CONDITIONED, steps=1)}
        shapes[size] = run_text_latent(host, graph, demo_pipeline)
    width, height = (side // demo_pipeline.space.ratio for side in native)
    assert shapes[0, 0].shape[2:] == (height, width) and torch.equal(shapes[0, 0], shapes[native])
    assert shapes[0, 32].shape[2:] == (32 // demo_pipeline.space.ratio, width)


@pytest.mark.parametrize("sampler,interval", SAMPLERS.values(), ids=SAMPLERS)
def test_graph_is_the_pipeline(host, demo_pipeline, sampler, interval):
    graph = {**text_model(PROMPT, "", *SIZE), **STACK, "sample": sampler(**CONDITIONED)}
    condition, noise = demo_pipeline.text([PROMPT]), demo_pipeline.noise(SIZE, 1, SEED)
    expected = text_reference(demo_pipeline, condition, noise, guidance_interval=interval)
    assert_same_latents(run_text_latent(host, graph, demo_pipeline), expected, TOLERANCE)
    assert_same_pictures(host.images(host.run({**graph, **decoded()})), demo_pipeline.decode(expected))


CASES = {  # prompt, negative, width, height, batch, changes to the sampler
    "one step": ("a red sneaker", "", 32, 32, 1, {"steps": 1}),
    "batch": ("three boots", "", 96, 64, 3, {}),
    "tall": ("a sandal above a t-shirt", "", 32, 96, 1, {"steps": 16}),
    "largest": ("four dresses", "", 96, 96, 1, {"steps": 2}),
    "long negative": ("a bag", "an image of a blue dress together with a coat", 64, 32, 1, {"cfg": 4.0}),
    "words it does not know": ("a fluffy fox, asleep", "", 64, 64, 1, {}),
    "stochastic": ("a boot", "", 64, 64, 1, {"stochasticity": 0.3}),
}


@pytest.mark.parametrize("case", CASES)
def test_prompts_sizes_and_batches(host, demo_pipeline, case):
    positive, negative, width, height, batch, changes = CASES[case]
    graph = {**text_model(positive, negative, width, height, batch), **STACK}
    graph["sample"] = tim_sampler(**CONDITIONED, **changes)
    options = {"cfg": 2.5, **changes}
    times = make_times("uniform", options.pop("steps", 4))
    expected = demo_pipeline([positive] * batch, negative, size=(width, height), times=times, seed=SEED, **options)
    assert_same_pictures(host.images(host.run({**graph, **decoded()})), expected)


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_previews_are_decoded(host, size):
    """One a step, and the last one is the image, but for JPEG and enlarging."""
    graph = {**text_model("three boots", "", *size), **STACK, **decoded()}
    graph["sample"] = tim_sampler(**CONDITIONED, steps=3, seed=31)
    with host.listen() as stream:
        events = list(stream.until_finished(host.queue(graph, stream.client_id)))
    previews = [event.data.convert("RGB") for event in events if event.type == "preview"]
    assert len(previews) == 3 and max(previews[-1].size) == 512
    (image,) = host.images(host.run(graph))
    difference = to_tensor(previews[-1].resize(size)) - to_tensor(image)
    assert difference.abs().mean() < 0.06, "of 2: colors alone are off by more"


def test_image_to_image(host, demo_pipeline):
    picture = gradient(*SIZE)
    graph = {**text_model(PROMPT, "", *SIZE), **STACK, **load_image(host, picture, "gradient")}
    graph["sample"] = tim_sampler(**CONDITIONED, latent_image=["encoded", 0], steps=3, denoise=0.6)
    encoded = demo_pipeline.vae.encode(to_tensor(picture))
    assert_same_latents(run_text_latent(host, graph, demo_pipeline, "encoded"), encoded, TOLERANCE)
    state = 0.6 * demo_pipeline.noise(SIZE, 1, SEED) + 0.4 * encoded
    expected = text_reference(demo_pipeline, demo_pipeline.text([PROMPT]), state, steps=3, start=0.6)
    assert_same_latents(run_text_latent(host, graph, demo_pipeline), expected, TOLERANCE)


def test_prompt_and_steps_matter(demo_pipeline):
    """Else the other tests would prove little."""
    noise = demo_pipeline.noise(SIZE, 1, SEED)
    base = text_reference(demo_pipeline, demo_pipeline.text([PROMPT]), noise)
    for text, steps in [("a red bag", 4), (PROMPT, 1)]:
        changed = text_reference(demo_pipeline, demo_pipeline.text([text]), noise, steps)
        assert (changed - base).abs().max() > 0.1, f"{text}, {steps} steps"


def test_demo(host, demo_pipeline, tmp_path):
    """What `dev.py run` leaves: pictures of all prompts and numbers of steps, their sheet and animation, no others."""
    (tmp_path / "of-another-model.png").touch()
    workflow = json.loads(demo.WORKFLOW.read_text(encoding="utf-8"))
    images = demo.generate(host, workflow)
    demo.save(images, workflow, tmp_path)
    assert len(images) == len(demo.PROMPTS) * len(demo.STEPS) == 36
    names = {f"{text.replace(' ', '-')}-{steps:02d}-steps.png" for text in demo.PROMPTS for steps in demo.STEPS}
    assert {path.name for path in tmp_path.iterdir()} == names | {"contact_sheet.png", "any_step.webp"}
    assert (tmp_path / "any_step.webp").stat().st_size < 1_500_000
    for text, steps in [(demo.PROMPTS[0], 1), (demo.PROMPTS[-1], 16)]:
        found, seconds = images[text, steps]
        assert seconds > 0
        expected = demo_pipeline(text, size=SIZE, steps=steps)
        factor = found.width // SIZE[0]
        assert_same_pictures([found.reduce(factor)], expected)


@pytest.mark.parametrize("cfg,calls", [(1.0, [1, 2, 4, 8, 16, 32]), (2.5, [1, 3, 7, 15, 31, 63])])
def test_network_calls_of_the_demo(cfg, calls):
    """As its frames state them: with guidance each step but the first takes two."""
    workflow = json.loads(demo.WORKFLOW.read_text(encoding="utf-8"))
    demo.sampler_of(workflow)["cfg"] = cfg
    assert [demo.network_calls(workflow, steps) for steps in demo.STEPS] == calls


def test_demo_speaks_the_model_s_language():
    assert {word for text in demo.PROMPTS for word in text.split()} <= set(all_words())
