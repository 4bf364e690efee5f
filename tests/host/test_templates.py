"""ComfyUI's text-to-image templates, with only loaders, prompts and sizes replaced, draw their size."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from devtools.random_stack import MODEL_FILE, SMALL_TIM, TEXT_ENCODER_FILE, VAE_FILE
from tests.host.graphs import Graph, node

TEMPLATES = {path.stem: path for path in sorted(Path(__file__).with_name("templates").glob("*.json"))}
FILES = {
    "TiMModelLoader": {"model_name": MODEL_FILE},
    "TiMTextEncoderLoader": {"text_encoder_name": TEXT_ENCODER_FILE},
    "TiMVAELoader": {"vae_name": VAE_FILE},
}
UNIT = 32  # pixels of a cell of the random stack
UPSCALES = "Upscale Latent counts 8 pixels a cell"


@pytest.fixture(scope="module")
def lora(host, stack) -> None:
    """The LoRA of the templates that load one."""
    D, generator = SMALL_TIM.hidden_size, torch.Generator().manual_seed(1)
    shapes = {"lora_A": (2, D), "lora_B": (3 * D, 2)}
    name = "diffusion_model.blocks.0.attn.qkv"
    factors = {f"{name}.{part}.weight": torch.randn(shape, generator=generator) for part, shape in shapes.items()}
    save_file(factors, host.base / "models" / "loras" / "diffusion_model.safetensors")


def template(name: str) -> Graph:
    """The template on the random stack, in two steps of each sampler."""
    graph = json.loads(TEMPLATES[name].read_text(encoding="utf-8"))
    for entry in graph.values():
        entry["inputs"] |= FILES.get(entry["class_type"], {}) | ({"steps": 2} if "steps" in entry["inputs"] else {})
    return graph


def with_our_latent(graph: Graph) -> tuple[Graph, tuple[int, int]]:
    """The same with TiM Empty Latent at the nearest size that the model makes, and that size."""
    (latent,) = (name for name, entry in graph.items() if entry["class_type"].startswith("Empty"))
    model = next(name for name, entry in graph.items() if entry["class_type"] == "TiMModelLoader")
    inputs = graph[latent]["inputs"]
    width, height = (round(inputs[side] / UNIT) * UNIT for side in ("width", "height"))
    ours = node("TiMEmptyLatent", model=[model, 0], width=width, height=height, batch_size=inputs["batch_size"])
    return {**graph, latent: ours}, (width, height)


def pictures(host, graph: Graph) -> dict[str, np.ndarray]:
    outputs = host.run(graph)
    return {name: np.array(host.images({name: output})[0]) for name, output in outputs.items() if "images" in output}


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_draws_its_size(host, lora, name):
    graph = template(name)
    told = host.log.count(UPSCALES)
    ours, size = with_our_latent(graph)
    found = pictures(host, graph)
    assert math.prod(size) in {picture.shape[0] * picture.shape[1] for picture in found.values()}
    expected = pictures(host, ours)
    assert found.keys() == expected.keys() and all((found[key] == expected[key]).all() for key in found)
    upscales = any(entry["class_type"] == "LatentUpscale" for entry in graph.values())
    assert (host.log.count(UPSCALES) > told) == upscales  # of 8 pixels a cell on every host: told, not mended
