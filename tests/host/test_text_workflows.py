"""The bundled text workflows draw what `TiMPipeline` draws, with the bundled stack and with the official files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor

from devtools.random_stack import MODEL_FILE, TEXT_ENCODER_FILE, VAE_FILE, with_published_files
from tests.host.text_graphs import assert_same_latents, assert_same_pictures, gradient, run_text_latent, to_tensor
from tim_model import make_times, sample
from training.evaluation.bundled import BUNDLED

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
WORKFLOWS = ["text_to_image", "text_to_image_many_steps", "image_to_image", "inpainting", "step_sweep"]
LOADERS = {"TiMModelLoader": "model", "TiMTextEncoderLoader": "text_encoder", "TiMVAELoader": "vae"}
SIDE, ENLARGED = 64, 6  # pixels, and how often each is repeated in the saved picture
HUGGING_FACE = "https://huggingface.co"

each_workflow = pytest.mark.parametrize("name", WORKFLOWS)


def read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def nodes_of(prompt: dict[str, Any], class_type: str) -> list[dict[str, Any]]:
    """The inputs of an API-format prompt's nodes of one type."""
    return [node["inputs"] for node in prompt.values() if node["class_type"] == class_type]


def options_of(sampler: dict[str, Any]) -> dict[str, Any]:
    """A TiM Sampler's settings as arguments of `sample`."""
    interval = sampler["guidance_low"], sampler["guidance_high"]
    times = make_times(sampler["schedule"], sampler["steps"], start=sampler["denoise"])
    return {"times": times, "cfg": sampler["cfg"], "guidance_interval": interval}


def texts(prompt: dict[str, Any]) -> list[str]:
    """The prompt and the negative one."""
    return [inputs["text"] for inputs in nodes_of(prompt, "CLIPTextEncode")]


def enlarged(images: Tensor) -> Tensor:
    return images.repeat_interleave(ENLARGED, 2).repeat_interleave(ENLARGED, 3)


@pytest.mark.parametrize("name,steps", [("text_to_image", [8]), ("text_to_image_many_steps", [1, 8, 32])])
def test_text_to_image(host, demo_pipeline, to_api, name, steps):
    prompt = to_api(read(name))
    positive, negative = texts(prompt)
    samplers = nodes_of(prompt, "TiMSampler")
    assert [sampler["steps"] for sampler in samplers] == steps
    assert len({sampler["seed"] for sampler in samplers}) == 1
    outputs = host.run(prompt)
    saved = [outputs[key] for key, node in prompt.items() if node["class_type"] == "SaveImage"]
    for sampler, output in zip(samplers, saved, strict=True):
        expected = demo_pipeline([positive], negative, size=(SIDE, SIDE), seed=sampler["seed"], **options_of(sampler))
        assert_same_pictures(host.images({"saved": output}), enlarged(expected))


def test_image_to_image(host, demo_pipeline, to_api):
    picture = gradient(SIDE, SIDE)
    host.upload_image(picture, "example.png")
    prompt = to_api(read("image_to_image"))
    positive, negative = texts(prompt)
    (sampler,) = nodes_of(prompt, "TiMSampler")
    t, noise = sampler["denoise"], demo_pipeline.noise((SIDE, SIDE), 1, sampler["seed"])
    state = t * noise + (1 - t) * demo_pipeline.vae.encode(to_tensor(picture))
    condition = demo_pipeline.text([positive], negative)
    latents = sample(demo_pipeline.net, state, **condition._asdict(), **options_of(sampler))
    assert_same_pictures(host.images(host.run(prompt)), enlarged(demo_pipeline.decode(latents)))


def test_inpainting_changes_what_is_masked(host, demo_pipeline, to_api):
    """The mask is the lower half of a picture twice as wide as high, whose sides are cut off."""
    picture = gradient(2 * SIDE, SIDE)
    mask = Image.new("L", picture.size, 255)
    mask.paste(0, (0, SIDE // 2, 2 * SIDE, SIDE))  # transparent is masked
    picture.putalpha(mask)
    host.upload_image(picture, "example.png")
    prompt = to_api(read("inpainting"))
    (sampler_id,) = (key for key, node in prompt.items() if node["class_type"] == "TiMSampler")
    found = run_text_latent(host, prompt, demo_pipeline, sampler_id)
    middle = picture.crop((SIDE // 2, 0, 3 * SIDE // 2, SIDE))
    kept = demo_pipeline.vae.encode(to_tensor(middle))
    half = found.shape[2] // 2
    assert_same_latents(found[:, :, :half], kept[:, :, :half])
    assert (found - kept)[:, :, half:].abs().mean() > 0.1


def test_step_sweep(host, demo_pipeline, to_api):
    prompt = to_api(read("step_sweep"))
    positive, negative = texts(prompt)
    (sweep,) = nodes_of(prompt, "TiMStepSweep")
    (empty,) = nodes_of(prompt, "TiMEmptyLatent")
    outputs = host.run(prompt)
    (shown,) = (outputs[key] for key, node in prompt.items() if node["class_type"] == "PreviewImage")
    pictures, batch = host.images({"shown": shown}), empty["batch_size"]
    for k, steps in enumerate([1, 2, 4, 8, 16]):
        options = options_of({**sweep, "steps": steps, "denoise": 1.0})
        expected = demo_pipeline([positive] * batch, negative, size=(SIDE, SIDE), seed=sweep["seed"], **options)
        assert_same_pictures(pictures[k * batch : (k + 1) * batch], enlarged(expected))
    assert len(pictures) == 5 * batch


def test_official_files_in_their_place(host, pipeline, to_api):
    """The workflow with what its note tells to change, on small random weights under the official names."""
    prompt = with_published_files(to_api(read("text_to_image")), width=128, height=96)
    positive, negative = texts(prompt)
    (sampler,) = nodes_of(prompt, "TiMSampler")
    expected = pipeline([positive], negative, size=(128, 96), seed=sampler["seed"], **options_of(sampler))
    assert_same_pictures(host.images(host.run(prompt)), expected)


@each_workflow
def test_nothing_is_to_be_downloaded(name):
    nodes = [node for node in read(name)["nodes"] if node["type"] in LOADERS]
    assert {node["type"]: node["widgets_values"][0] for node in nodes} == {
        node_type: BUNDLED[part].name for node_type, part in LOADERS.items()
    }
    assert [node["type"] for node in nodes if "models" in node["properties"]] == []


@each_workflow
def test_note_tells_files_and_sizes_of_the_official_model(name):
    (note,) = (node["widgets_values"][0] for node in read(name)["nodes"] if node["type"] == "MarkdownNote")
    for words in [
        MODEL_FILE, TEXT_ENCODER_FILE, VAE_FILE, f"({HUGGING_FACE}/GoodEnough/TiM-T2I)", "models/diffusion_models",
        f"({HUGGING_FACE}/google/gemma-3-1b-it)", f"({HUGGING_FACE}/mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers)",
        f"python -m tim_model convert {MODEL_FILE}", "config.json", "tokenizer.json", "license", "1024", "*scale_by*",
    ]:  # fmt: skip
        assert words in note


@each_workflow
def test_nodes_are_stock_or_ours(host, name):
    info = host.object_info()
    types = {node["type"] for node in read(name)["nodes"]} - {"MarkdownNote"}  # the browser's own
    stock = {kind for kind in types if info[kind]["python_module"].startswith(("nodes", "comfy_extras."))}
    assert {kind for kind in types - stock if "ComfyUI-TiM" not in info[kind]["python_module"]} == set()
