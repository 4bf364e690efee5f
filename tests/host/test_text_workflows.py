"""The bundled text workflows: what they draw is what `TiMPipeline` draws, and they say where their models come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from devtools.random_stack import MODEL_FILE, TEXT_ENCODER_FILE, VAE_FILE
from tests.host.text_graphs import (
    assert_same_latents,
    assert_same_pictures,
    gradient,
    run_text_latent,
    to_tensor,
)
from tim_model import make_times, sample

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
WORKFLOWS = ["text_to_image", "text_to_image_many_steps", "image_to_image", "inpainting"]
SIDE = 128  # pixels, instead of 1024
HUGGING_FACE = "https://huggingface.co"
PUBLISHED = {
    "TiMTextEncoderLoader": {
        "name": TEXT_ENCODER_FILE,
        "url": f"{HUGGING_FACE}/google/gemma-3-1b-it/resolve/main/model.safetensors",
        "directory": "text_encoders",
    },
    "TiMVAELoader": {
        "name": VAE_FILE,
        "url": f"{HUGGING_FACE}/mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers/resolve/main/"
        "diffusion_pytorch_model.safetensors",
        "directory": "vae",
    },
}

each_workflow = pytest.mark.parametrize("name", WORKFLOWS)


def read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def nodes_of(prompt: dict[str, Any], class_type: str) -> list[dict[str, Any]]:
    """The inputs of an API-format prompt's nodes of one type."""
    return [node["inputs"] for node in prompt.values() if node["class_type"] == class_type]


@pytest.fixture
def small(stack, to_api):
    """A workflow in API format in which only the size is another."""

    def make(name: str) -> dict[str, Any]:
        prompt = to_api(read(name))
        for node in prompt.values():
            node["inputs"].update({side: SIDE for side in ("width", "height") if side in node["inputs"]})
        return prompt

    return make


def options_of(sampler: dict[str, Any]) -> dict[str, Any]:
    """A TiM Sampler's settings as arguments of `sample`."""
    interval = sampler["guidance_low"], sampler["guidance_high"]
    times = make_times(sampler["schedule"], sampler["steps"], start=sampler["denoise"])
    return {"times": times, "cfg": sampler["cfg"], "guidance_interval": interval}


def texts(prompt: dict[str, Any]) -> list[str]:
    """The prompt and the negative one."""
    return [inputs["text"] for inputs in nodes_of(prompt, "CLIPTextEncode")]


@pytest.mark.parametrize("name,steps", [("text_to_image", [8]), ("text_to_image_many_steps", [1, 8, 32])])
def test_text_to_image(host, pipeline, small, name, steps):
    prompt = small(name)
    positive, negative = texts(prompt)
    samplers = nodes_of(prompt, "TiMSampler")
    assert [sampler["steps"] for sampler in samplers] == steps
    assert len({sampler["seed"] for sampler in samplers}) == 1
    outputs = host.run(prompt)
    saved = [outputs[key] for key, node in prompt.items() if node["class_type"] == "SaveImage"]
    for sampler, output in zip(samplers, saved, strict=True):
        expected = pipeline([positive], negative, size=(SIDE, SIDE), seed=sampler["seed"], **options_of(sampler))
        assert_same_pictures(host.images({"saved": output}), expected)


def test_image_to_image(host, pipeline, small):
    picture = gradient(SIDE, SIDE)
    host.upload_image(picture, "example.png")
    prompt = small("image_to_image")
    positive, negative = texts(prompt)
    (sampler,) = nodes_of(prompt, "TiMSampler")
    t = sampler["denoise"]
    state = t * pipeline.noise((SIDE, SIDE), 1, sampler["seed"]) + (1 - t) * pipeline.vae.encode(to_tensor(picture))
    condition = pipeline.text([positive], negative)
    latents = sample(
        pipeline.net, state, context=condition.context, null_context=condition.null_context, **options_of(sampler)
    )
    assert_same_pictures(host.images(host.run(prompt)), pipeline.decode(latents))


def test_inpainting_changes_what_is_masked(host, pipeline, small):
    """The mask is the lower half of a picture twice as wide as high, whose sides are cut off."""
    picture = gradient(2 * SIDE, SIDE)
    mask = Image.new("L", picture.size, 255)
    mask.paste(0, (0, SIDE // 2, 2 * SIDE, SIDE))  # transparent is masked
    picture.putalpha(mask)
    host.upload_image(picture, "example.png")
    prompt = small("inpainting")
    (sampler_id,) = (key for key, node in prompt.items() if node["class_type"] == "TiMSampler")
    found = run_text_latent(host, prompt, pipeline, sampler_id)
    middle = picture.crop((SIDE // 2, 0, 3 * SIDE // 2, SIDE))
    kept = pipeline.vae.encode(to_tensor(middle))
    half = SIDE // 64
    assert_same_latents(found[:, :, :half], kept[:, :, :half])
    assert (found - kept)[:, :, half:].abs().mean() > 0.1


@each_workflow
def test_models_are_named(name):
    """Where the browser offers to download them: under the name that the loader asks for."""
    nodes = {node["type"]: node for node in read(name)["nodes"]}
    for node_type, published in PUBLISHED.items():
        assert nodes[node_type]["properties"]["models"] == [published]
        assert nodes[node_type]["widgets_values"] == [published["name"]]
    assert nodes["TiMModelLoader"]["widgets_values"][0] == MODEL_FILE


@each_workflow
def test_note_tells_what_cannot_be_downloaded_so(name):
    (note,) = (node["widgets_values"][0] for node in read(name)["nodes"] if node["type"] == "MarkdownNote")
    for words in [
        MODEL_FILE, f"({HUGGING_FACE}/GoodEnough/TiM-T2I)", "models/diffusion_models",
        f"python -m tim_model convert {MODEL_FILE}", "config.json", "tokenizer.json", "license",
    ]:  # fmt: skip
        assert words in note


@each_workflow
def test_nodes_are_stock_or_ours(host, name):
    info = host.object_info()
    types = {node["type"] for node in read(name)["nodes"]} - {"MarkdownNote"}  # the browser's own
    stock = {kind for kind in types if info[kind]["python_module"].startswith(("nodes", "comfy_extras."))}
    assert {kind for kind in types - stock if "ComfyUI-TiM" not in info[kind]["python_module"]} == set()
