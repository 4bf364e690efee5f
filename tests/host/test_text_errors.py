"""Wrong and missing files of the text-to-image stack, and parts that do not fit, are told in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from devtools.random_stack import GEMMA, MODEL_FILE, SMALL_GEMMA, VAE_FILE, write_gemma
from tests.host.graphs import class_model, ksampler, loader, node, tim_sampler
from tests.host.test_errors import refuses
from tests.host.text_graphs import CONDITIONED, loaders, prompt, text_model

GEMMA_SOURCE = "google/gemma-3-1b-it on Hugging Face"
VAE_SOURCE = "mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers"
SAMPLERS = {"KSampler": ksampler, "TiMSampler": tim_sampler}

each_sampler = pytest.mark.parametrize("node_type", SAMPLERS)


@pytest.fixture(scope="module")
def text_encoders(stack) -> Path:
    return stack / "text_encoders"


def text_graph(name: str) -> dict:
    """Sampling with the prompts of one text encoder."""
    graph = {**text_model(), "sample": tim_sampler(**CONDITIONED)}
    return {**graph, "clip": node("TiMTextEncoderLoader", text_encoder_name=name)}


@each_sampler
def test_text_encoder_of_another_width(host, text_encoders, node_type):
    write_gemma(text_encoders / "wide", {**GEMMA, **SMALL_GEMMA, "hidden_size": 48})
    graph = {**text_graph("wide/model.safetensors"), "sample": SAMPLERS[node_type](**CONDITIONED)}
    refuses(host, graph, node_type, "48 features", "expects 32")


@each_sampler
def test_class_for_the_text_model(host, stack, node_type):
    classes = class_model()
    graph = {**text_model(), "class_model": classes["model"], "class": classes["class"]}
    graph["class"]["inputs"]["model"] = ["class_model", 0]
    links = {"model": ["model", 0], "positive": ["class", 0], "negative": ["class", 1]}
    refuses(
        host,
        {**graph, "sample": SAMPLERS[node_type](**links)},
        node_type,
        "knows text, not classes",
        "CLIP Text Encode",
    )


@each_sampler
def test_text_for_a_class_model(host, stack, node_type):
    graph = {**class_model(), "clip": loaders()["clip"], "text": prompt("a red fox")}
    sampler = SAMPLERS[node_type](positive=["text", 0], negative=["text", 0])
    refuses(host, {**graph, "sample": sampler}, node_type, "classes, not text", "TiM Class")


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_missing_file_beside_the_text_encoder(host, text_encoders, missing):
    """The message says which file, in which folder, from which source."""
    folder = text_encoders / f"without {missing}"
    shutil.copytree(text_encoders / "gemma-3-1b-it", folder)
    (folder / missing).unlink()
    words = "model.safetensors", f"no {missing}", str(folder), GEMMA_SOURCE, "license"
    refuses(host, text_graph(f"{folder.name}/model.safetensors"), "TiMTextEncoderLoader", *words)


def test_text_encoder_that_is_another_file(host, stack, text_encoders):
    shutil.copy(stack / "vae" / VAE_FILE, text_encoders / "vae.safetensors")
    refuses(host, text_graph("vae.safetensors"), "TiMTextEncoderLoader", "vae.safetensors", "config.json", GEMMA_SOURCE)


def test_foreign_weights_beside_the_right_config(host, stack, text_encoders):
    folder = text_encoders / "foreign"
    shutil.copytree(text_encoders / "gemma-3-1b-it", folder)
    shutil.copy(stack / "vae" / VAE_FILE, folder / "model.safetensors")
    refuses(host, text_graph("foreign/model.safetensors"), "TiMTextEncoderLoader", "foreign", "embed_tokens.weight")


def test_larger_gemma(host, text_encoders):
    """Gemma-3 4B and above read images too."""
    folder = text_encoders / "gemma-3-4b-it"
    shutil.copytree(text_encoders / "gemma-3-1b-it", folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": GEMMA}))
    words = "config.json", "'gemma3'", "google/gemma-3-1b-it"
    refuses(host, text_graph("gemma-3-4b-it/model.safetensors"), "TiMTextEncoderLoader", *words)


def test_truncated_text_encoder(host, text_encoders):
    folder = text_encoders / "truncated"
    shutil.copytree(text_encoders / "gemma-3-1b-it", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refuses(host, text_graph("truncated/model.safetensors"), "TiMTextEncoderLoader", "truncated", "download it again")


def vae_graph(name: str) -> dict:
    encoded = node("VAEEncode", pixels=["image", 0], vae=["vae", 0])
    image = node("EmptyImage", width=64, height=64, batch_size=1, color=0)
    return {"vae": node("TiMVAELoader", vae_name=name), "image": image, "sample": encoded}


def sd_vae(path: Path) -> None:
    """The names and shapes by which an SD-VAE is known, in the layout of diffusers."""
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    AutoencoderKL(**blocks, block_out_channels=(32,) * 4, latent_channels=4).save_pretrained(path.parent / "sd")
    shutil.copy(path.parent / "sd" / "diffusion_pytorch_model.safetensors", path)


def foreign(path: Path) -> None:
    save_file({"transformer.weight": torch.ones(4, 4)}, path)


def single_file_layout(path: Path) -> None:
    """As in checkpoints of Stable Diffusion."""
    save_file(
        {"encoder.conv_in.weight": torch.ones(8, 3, 3, 3), "decoder.mid.block_1.norm1.weight": torch.ones(8)}, path
    )


def incomplete(path: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(path.parent / VAE_FILE)
    save_file({name: value for name, value in weights.items() if not name.startswith("decoder.conv_out")}, path)


VAES = {
    sd_vae: ["AutoencoderKL", "expected a DC-AE", "stock Load VAE"],
    foreign: ["transformer.weight", "diffusers' layout", VAE_SOURCE],
    single_file_layout: ["diffusers' layout", VAE_SOURCE],
    incomplete: ["decoder.conv_out"],
}


@pytest.mark.parametrize("write", VAES)
def test_file_that_is_no_dc_ae(host, stack, write):
    name = f"{write.__name__}.safetensors"
    write(stack / "vae" / name)
    refuses(host, vae_graph(name), "TiMVAELoader", name, *VAES[write])


def test_text_model_in_the_wrong_loaders(host, stack):
    """A .bin of the model, in the folders of the other two."""
    for folder in ("vae", "text_encoders"):
        shutil.copy(stack / "diffusion_models" / MODEL_FILE, stack / folder / "model.bin")
    refuses(host, vae_graph("model.bin"), "TiMVAELoader", "model.bin", "diffusers' layout", VAE_SOURCE)
    refuses(host, text_graph("model.bin"), "TiMTextEncoderLoader", "model.bin", ".safetensors")


def test_vae_in_the_model_loader(host, stack):
    name = "vae_as_model.safetensors"
    shutil.copy(stack / "vae" / VAE_FILE, stack / "diffusion_models" / name)
    refuses(host, {**text_model(), "model": loader(name)}, "TiMModelLoader", name, "not a TiM", output="latent")


def test_size_that_the_text_model_cannot_make(host, stack):
    refuses(host, text_model(width=1000), "TiMEmptyLatent", "1000x96", "multiples of 32", "992x96", output="latent")
