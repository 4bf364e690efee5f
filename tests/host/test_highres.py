"""TiM High-Res Sampler gives the pictures of `TiMPipeline`: in one pass or in stages, with a VAE or without."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from devtools.client import PromptFailed
from devtools.random_stack import VAE_FILE
from devtools.server import Host
from tests.host.graphs import CONDITIONED as CLASS
from tests.host.graphs import MODEL_FILE as CLASS_MODEL
from tests.host.graphs import PIXELS, SEED, Graph, class_model, node, run_floats, tim_sampler
from tests.host.text_graphs import CONDITIONED, FOX, UGLY, assert_same_latents, run_text_latent, text_model
from tim_model import TiMPipeline, make_times
from tim_model.network.rope import RopeScaling
from tim_model.sampling.progressive import Stage, plan_stages, sample_progressively, size_shift
from tim_model.sampling.schedule import shifted
from tim_model.sampling.sizes import MEGAPIXEL

pytestmark = pytest.mark.usefixtures("stack")
WIDTH, HEIGHT, UNIT = 160, 96, 32
BASE = 0.0625  # megapixels of 256x256 pixels, the size that the small model is made for
SMALL_BASE = 0.004  # of about 64x64 pixels
PLAN = {"base_pixels": round(SMALL_BASE * MEGAPIXEL), "steps": 3, "renoise": 0.5, "large_steps": 2}  # as `progressive`


def sampler(**changes: Any) -> dict[str, Any]:
    settings = {"width": WIDTH, "height": HEIGHT, "batch_size": 1, "seed": SEED, "steps": 3, "strategy": "native"}
    settings |= {"schedule": "uniform", "time_shift": False, "rope": "none", "base_megapixels": BASE}
    settings |= {"growth": 2.0, "renoise": 0.5, "large_steps": 2, "cfg": 2.5, "guidance_low": 0.0}
    settings |= {"guidance_high": 1.0, "stochasticity": 0.0}
    return node("TiMHighResSampler", **{**CONDITIONED, **settings, **changes})


def graph(vae: bool = True, **changes: Any) -> Graph:
    """The stack and the sampler as "sample"."""
    return {**text_model(), "sample": sampler(**({"vae": ["vae", 0]} if vae else {}), **changes)}


def progressive(**changes: Any) -> dict[str, Any]:
    return {"strategy": "progressive", "base_megapixels": SMALL_BASE, **changes}


def to_latents(
    pipeline: TiMPipeline, stages: list[Stage], vae: bool, rope: str = "none", batch: int = 1, **options: Any
) -> Tensor:
    """What the pipeline would decode."""
    settings = {"seed": SEED, "cfg": 2.5, **options}
    net = partial(pipeline.net, rope_scaling=RopeScaling(rope, pipeline.default_size[0] // pipeline.unit))
    return sample_progressively(
        net, stages, *pipeline.text([FOX] * batch, UGLY), space=pipeline.space, vae=pipeline if vae else None,
        **settings,
    )  # fmt: skip


def native_stage(schedule: str = "uniform", shift: float = 1.0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Stage:
    return Stage(*size, tuple(shifted(t, shift) for t in make_times(schedule, 3)))


LARGE = {"width": 320, "height": 288}  # beyond the 8 tokens a side of the small model
NATIVE = {  # changes to the node, the stage, options of the pipeline
    "defaults": ({}, native_stage(), {}),
    "cosine": ({"schedule": "cosine"}, native_stage("cosine"), {}),
    "every step guided": (
        {"guidance_high": 2.0, "cfg": 4.0}, native_stage(), {"guidance_interval": (0.0, 2.0), "cfg": 4.0}
    ),
    "batch, stochastic": ({"batch_size": 2, "stochasticity": 0.3}, native_stage(), {"batch": 2, "stochasticity": 0.3}),
    "time shift": (
        {"time_shift": True, "base_megapixels": SMALL_BASE},
        native_stage(shift=size_shift(WIDTH, HEIGHT, round(SMALL_BASE * MEGAPIXEL))), {},
    ),
    **{
        kind: ({"rope": kind, **LARGE}, native_stage(size=(320, 288)), {"rope": kind})
        for kind in ("linear", "ntk", "yarn")
    },
}  # fmt: skip


@pytest.mark.parametrize("case", NATIVE)
def test_native_is_the_pipeline(host, pipeline, case):
    changes, stage, options = NATIVE[case]
    found = run_text_latent(host, graph(**changes), pipeline)
    assert_same_latents(found, to_latents(pipeline, [stage], True, **options))


def test_native_is_the_sampler(host, pipeline):
    """Bit for bit, and rotations scaled beyond the trained size only."""
    plain = {**text_model(width=WIDTH, height=HEIGHT), "sample": tim_sampler(**CONDITIONED, steps=3)}
    expected = run_text_latent(host, plain, pipeline)
    for rope in ("none", "yarn"):
        assert torch.equal(run_text_latent(host, graph(rope=rope), pipeline), expected)
    assert not torch.equal(run_text_latent(host, graph(rope="yarn", base_megapixels=SMALL_BASE), pipeline), expected)
    assert torch.equal(run_text_latent(host, graph(), pipeline), expected), "the model itself must stay as it is"


PROGRESSIVE = {  # changes to the node, options of `plan_stages`, of the pipeline, sizes
    "two stages": ({"growth": 4.0}, {"growth": 4.0}, {}, [(96, 64), (160, 96)]),
    "four stages": (
        {"base_megapixels": 0.001, "large_steps": 1}, {"base_pixels": 1049, "large_steps": 1}, {},
        [(32, 32), (64, 32), (96, 64), (160, 96)],
    ),
    "time shift, renoise": (
        {"time_shift": True, "renoise": 0.8, "steps": 4}, {"time_shift": True, "renoise": 0.8, "steps": 4}, {},
        [(96, 64), (160, 96)],
    ),
    "batch, stochastic": (
        {"batch_size": 2, "stochasticity": 0.3}, {}, {"batch": 2, "stochasticity": 0.3}, [(96, 64), (160, 96)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("vae", [True, False], ids=["pixels", "latents"])
@pytest.mark.parametrize("case", PROGRESSIVE)
def test_progressive_is_the_pipeline(host, pipeline, case, vae):
    changes, plan, options, sizes = PROGRESSIVE[case]
    stages = plan_stages((WIDTH, HEIGHT), UNIT, **{**PLAN, **plan})
    assert [(stage.width, stage.height) for stage in stages] == sizes
    found = run_text_latent(host, graph(vae, **progressive(**changes)), pipeline)
    assert_same_latents(found, to_latents(pipeline, stages, vae, **options), 2e-4)


def test_pixels_and_latents_differ(host, pipeline):
    by_pixels, by_latents = (run_text_latent(host, graph(vae, **progressive()), pipeline) for vae in (True, False))
    assert (by_pixels - by_latents).abs().max() > 1e-2


def test_image_is_the_decoded_latent(host, pipeline):
    """And the picture of `TiMPipeline` with the same settings."""
    made = {**graph(**progressive()), "decoded": node("VAEDecode", samples=["sample", 0], vae=["vae", 0])}
    found = run_floats(host, made, "sample", output=1)
    assert torch.equal(found, run_floats(host, made, "decoded"))
    stages = pipeline.plan((WIDTH, HEIGHT), **PLAN)
    expected = pipeline(FOX, UGLY, stages=stages, seed=SEED)
    assert_same_latents(found, expected.clamp(-1, 1), 2e-4)


def test_size_and_area_0_are_the_native_ones(host, pipeline):
    """A size below the base has one stage, of all steps."""
    width, height = pipeline.default_size
    options = {"strategy": "progressive", "steps": 1}
    native = graph(width=width, height=height, base_megapixels=width * height / MEGAPIXEL, **options)
    found = run_text_latent(host, graph(width=0, height=0, base_megapixels=0.0, **options), pipeline)
    assert torch.equal(found, run_text_latent(host, native, pipeline))


def test_seeds(host, pipeline):
    first = run_text_latent(host, graph(**progressive()), pipeline)
    host.free()
    assert torch.equal(run_text_latent(host, graph(**progressive()), pipeline), first)
    assert not torch.allclose(run_text_latent(host, graph(**progressive(seed=SEED + 1)), pipeline), first)


def class_graph(**changes: Any) -> Graph:
    """The bundled class model in pixel space, which no VAE is needed for."""
    return {**class_model(), "vae": PIXELS, "sample": sampler(**CLASS, width=64, height=48, **changes)}


def test_pixel_space(host):
    stages = plan_stages((64, 48), 4, round(0.001 * MEGAPIXEL), steps=3, renoise=0.5, large_steps=2)
    assert len(stages) == 2
    pipeline = TiMPipeline.from_files(CLASS_MODEL, device="cpu")
    expected = pipeline(classes="sandal", stages=stages, seed=SEED, rope="ntk")
    changes = {"strategy": "progressive", "base_megapixels": 0.001, "rope": "ntk"}
    found = run_floats(host, class_graph(vae=["vae", 0], **changes), "sample", output=1)
    assert (found - expected.clamp(-1, 1)).abs().max() <= 1e-4


def save(image: str = "sample", output: int = 1) -> Graph:
    return {"saved": node("SaveImage", images=[image, output], filename_prefix="highres")}


def test_one_progress_for_all_stages_and_a_preview_of_each_step(host):
    changes = progressive(base_megapixels=0.001, seed=41)  # 3 + 2 + 2 + 2 steps
    with host.listen() as stream:
        events = list(stream.until_finished(host.queue({**graph(**changes), **save()}, stream.client_id)))
    assert events[-1].type == "execution_success"
    steps = [(event.data["value"], event.data["max"]) for event in events if event.type == "progress"]
    assert steps == [(i, 9) for i in range(1, 10)]
    assert len([event for event in events if event.type == "preview"]) == 9


@pytest.mark.parametrize("at", [2, 5], ids=["base", "large stage"])
def test_interruption(host, at):
    changes = progressive(steps=3, large_steps=10000, seed=42 + at)
    with host.listen() as stream:
        prompt_id = host.queue({**graph(**changes), **save()}, stream.client_id)
        for event in stream.until_finished(prompt_id):
            if event.type == "progress" and event.data["value"] == at:
                host.interrupt()
    assert event.type == "execution_interrupted"
    assert len(host.images(host.run({**graph(seed=42), **save()}))) == 1


def test_image_without_a_vae_says_what_it_needs(host, pipeline):
    """Only where it is used; the latent comes out all the same."""
    assert run_text_latent(host, graph(vae=False), pipeline).isfinite().all()
    with host.listen() as stream:
        events = list(stream.until_finished(host.queue({**graph(vae=False), **save()}, stream.client_id)))
    (error,) = (event.data for event in events if event.type == "execution_error")
    assert "connect a VAE to TiM High-Res Sampler" in error["exception_message"]
    assert error["node_type"] == "SaveImage"


def refuses(host: Host, graph: Graph, *words: str) -> None:
    """The node fails with a ValueError of its own making, in one line that has all the words."""
    with pytest.raises(PromptFailed) as caught:
        host.run({**graph, **save()})
    assert caught.value.node_type == "TiMHighResSampler"
    assert caught.value.details["exception_type"].rpartition(".")[2] == "ValueError"
    message = caught.value.exception_message
    assert "\n" not in message and [word for word in words if word not in message] == []


REFUSALS = {
    "size": ({"width": 168}, ["168x96", "multiples of 32"]),
    "size in stages": (progressive(width=168), ["168x96", "multiples of 32"]),
    "guidance": ({"guidance_low": 0.8, "guidance_high": 0.2}, ["guidance_low=0.8", "guidance_high=0.2"]),
}


@pytest.mark.parametrize("changes,words", REFUSALS.values(), ids=REFUSALS)
def test_impossible_settings(host, changes, words):
    refuses(host, graph(**changes), *words)


def test_vae_of_another_model(host):
    other = {**class_graph(vae=["vae", 0]), "vae": node("TiMVAELoader", vae_name=VAE_FILE)}
    refuses(host, other, "vae decodes 32 channels", "draws 3")


def test_sizes_beyond_the_published_ones_are_told_in_the_log(host, pipeline):
    run_text_latent(host, graph(width=384, height=64, steps=1), pipeline)
    assert "384x64 is an aspect beyond 2:5 to 5:2" in host.log
    assert f"{WIDTH}x{HEIGHT} is" not in host.log
