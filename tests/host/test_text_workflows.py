"""The bundled text workflows draw what `TiMPipeline` draws, with the bundled stack and with the official files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from devtools.random_stack import with_published_files
from devtools.templates import names
from devtools.templates.demo import ENLARGE, SIDE
from devtools.templates.names import BESIDE_MODELS, WITH_DOWNLOADS, WITH_TEXT_DEMO, read_workflow
from tests.host.graphs import node, run_floats
from tests.host.text_graphs import assert_same_latents, assert_same_pictures, run_text_latent
from tim_model import make_times, sample
from training.evaluation.bundled import BUNDLED

LOADERS = {"TiMModelLoader": "model", "TiMTextEncoderLoader": "text_encoder", "TiMVAELoader": "vae"}
FILES = {"TiMModelLoader", "TiMTextEncoderLoader", "TiMVAELoader", "VAELoader"}

each_workflow = pytest.mark.parametrize("name", WITH_TEXT_DEMO)


def by_type(prompt: dict[str, Any], class_type: str) -> dict[str, dict[str, Any]]:
    """The inputs of an API-format prompt's nodes of one type, by their ids."""
    return {key: entry["inputs"] for key, entry in prompt.items() if entry["class_type"] == class_type}


def nodes_of(prompt: dict[str, Any], class_type: str) -> list[dict[str, Any]]:
    return list(by_type(prompt, class_type).values())


def options_of(sampler: dict[str, Any]) -> dict[str, Any]:
    """A TiM Sampler's settings as arguments of `sample`."""
    interval = sampler["guidance_low"], sampler["guidance_high"]
    times = make_times(sampler["schedule"], sampler["steps"], start=sampler["denoise"])
    return {"times": times, "cfg": sampler["cfg"], "guidance_interval": interval}


def by_title(prompt: dict[str, Any], title: str) -> str:
    """The id of the node with this title."""
    (key,) = (key for key, entry in prompt.items() if entry["_meta"]["title"] == title)
    return key


def texts(prompt: dict[str, Any]) -> list[str]:
    """The prompt and the negative one; before them the one of the start image where there is one."""
    return [inputs["text"] for inputs in nodes_of(prompt, "CLIPTextEncode")]


def enlarged(images: Tensor) -> Tensor:
    return images.repeat_interleave(int(ENLARGE), 2).repeat_interleave(int(ENLARGE), 3)


def draw(pipeline, positive: str, negative: str, sampler: dict[str, Any], batch: int = 1, side: int = SIDE) -> Tensor:
    """The images of a sampler that starts from an empty latent."""
    return pipeline([positive] * batch, negative, size=(side, side), seed=sampler["seed"], **options_of(sampler))


def shown_at(host, prompt: dict[str, Any], *titles: str) -> list[list]:
    """The images that nodes of these titles show."""
    outputs = host.run(prompt)
    return [host.images({title: outputs[by_title(prompt, title)]}) for title in titles]


def test_text_to_image(host, demo_pipeline, to_api):
    prompt = to_api(read_workflow(names.TEXT_TO_IMAGE))
    (sampler,) = nodes_of(prompt, "TiMSampler")
    expected = draw(demo_pipeline, *texts(prompt), sampler)
    assert_same_pictures(host.images(host.run(prompt)), enlarged(expected))


def test_image_to_image(host, demo_pipeline, to_api):
    prompt = to_api(read_workflow(names.IMAGE_TO_IMAGE))
    start, positive, negative = texts(prompt)
    first, second = nodes_of(prompt, "TiMSampler")
    before = draw(demo_pipeline, start, negative, first)
    t, noise = second["denoise"], demo_pipeline.noise((SIDE, SIDE), 1, second["seed"])
    state = t * noise + (1 - t) * demo_pipeline.vae.encode(before.clamp(-1, 1))
    condition = demo_pipeline.text([positive], negative)
    after = demo_pipeline.decode(sample(demo_pipeline.net, state, **condition._asdict(), **options_of(second)))
    for found, expected in zip(shown_at(host, prompt, "Before", "After"), (before, after), strict=True):
        assert_same_pictures(found, enlarged(expected))


def test_inpainting_changes_what_is_masked(host, demo_pipeline, to_api):
    """The left half."""
    prompt = to_api(read_workflow(names.INPAINTING))
    first, second = by_type(prompt, "TiMSampler")
    before, after = (run_text_latent(host, prompt, demo_pipeline, key) for key in (first, second))
    half = before.shape[3] // 2
    assert_same_latents(after[..., half:], before[..., half:])
    assert (after - before)[..., :half].abs().mean() > 0.1


def test_step_sweep(host, demo_pipeline, to_api):
    prompt = to_api(read_workflow(names.STEP_SWEEP))
    (sweep,) = nodes_of(prompt, "TiMStepSweep")
    (empty,) = nodes_of(prompt, "TiMEmptyLatent")
    (key,) = by_type(prompt, "TiMStepSweep")
    prompt["images"] = node("SaveImage", images=[key, 0], filename_prefix="images")
    outputs, batch = host.run(prompt), empty["batch_size"]
    images = host.images({"images": outputs["images"]})
    for k, steps in enumerate([1, 2, 4, 16]):
        expected = draw(demo_pipeline, *texts(prompt), {**sweep, "steps": steps, "denoise": 1.0}, batch)
        assert_same_pictures(images[k * batch : (k + 1) * batch], expected)
    assert len(images) == 4 * batch


@pytest.mark.parametrize("number", [0, 5, 15])
def test_chosen_draft_starts_from_the_noise_of_its_draft(host, to_api, number):
    """Drawn in one step like the drafts, it is the draft with this number, which no other noise would make."""
    prompt = to_api(read_workflow(names.DRAFTS))
    drafts, refined = by_type(prompt, "TiMSampler")
    assert [prompt[key]["inputs"]["steps"] for key in (drafts, refined)] == [1, 32]
    assert prompt[drafts]["inputs"]["seed"] == prompt[refined]["inputs"]["seed"] == [by_title(prompt, "Seed"), 0]
    prompt[by_title(prompt, "Chosen draft")]["inputs"]["batch_index"] = number
    prompt[refined]["inputs"]["steps"] = 1
    decoder = {inputs["samples"][0]: key for key, inputs in by_type(prompt, "VAEDecode").items()}
    all_drafts, chosen = (run_floats(host, prompt, decoder[key]) for key in (drafts, refined))
    distances = (all_drafts - chosen).abs().amax(dim=(1, 2, 3))
    assert distances[number] <= 1e-4 and distances.argmin() == number
    assert all_drafts.shape[0] == 16 and torch.cat([distances[:number], distances[number + 1 :]]).min() > 0.1


def test_official_files_in_their_place(host, pipeline, to_api):
    """The first template with the official files in the loaders and a size of theirs."""
    prompt = with_published_files(to_api(read_workflow(names.TEXT_TO_IMAGE)), width=128, height=128)
    (sampler,) = nodes_of(prompt, "TiMSampler")
    assert_same_pictures(host.images(host.run(prompt)), draw(pipeline, *texts(prompt), sampler, side=128))


@each_workflow
def test_nothing_is_to_be_downloaded(name):
    loaders = [entry for entry in read_workflow(name)["nodes"] if entry["type"] in LOADERS]
    assert {entry["type"]: entry["widgets_values"][0] for entry in loaders} == {
        kind: BUNDLED[part].name for kind, part in LOADERS.items()
    }
    assert [entry["type"] for entry in loaders if "models" in entry["properties"]] == []


@pytest.mark.parametrize("name", WITH_DOWNLOADS)
def test_downloads_are_named_with_their_pages(name):
    """For the host's list of missing models, and in the note, since some hosts list no .bin."""
    nodes = read_workflow(name)["nodes"]
    (note,) = (entry["widgets_values"][0] for entry in nodes if entry["type"] == "MarkdownNote")
    for loader in (entry for entry in nodes if entry["type"] in FILES):
        (model,) = loader["properties"]["models"]
        page, _, _ = model["url"].partition("/resolve/main/")
        assert model["name"] == loader["widgets_values"][0] and model["name"].endswith(model["url"].rpartition("/")[2])
        if name != BESIDE_MODELS or model["name"].endswith(".bin"):
            assert f"[{model['name']}]({page})" in note and model["directory"] in note


@each_workflow
def test_nodes_are_stock_or_ours(host, name):
    info = host.object_info()
    types = {entry["type"] for entry in read_workflow(name)["nodes"]} - {"MarkdownNote"}  # the browser's own
    stock = {kind for kind in types if info[kind]["python_module"].startswith(("nodes", "comfy_extras."))}
    assert {kind for kind in types - stock if "ComfyUI-TiM" not in info[kind]["python_module"]} == set()
