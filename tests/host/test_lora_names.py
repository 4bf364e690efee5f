"""LoRA files under every style of names in stock loaders: the merged weights' picture, or one line on the node."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.host.graphs import EVERY_STEP, ROOT, Graph, ksampler, node, run_latent, shown, tim_sampler
from tests.host.text_graphs import (
    CONDITIONED,
    FOX,
    UGLY,
    assert_same_latents,
    prompt,
    run_text_latent,
    text_model,
    text_reference,
)
from tim_model import TiM
from tim_model.__main__ import main
from tim_model.pipeline import Condition
from tim_model.text.encoder import TextEncoder, pad_features

STRENGTH = 0.8
LAYERS = [
    "blocks.0.attn.qkv",
    "blocks.1.mlp.fc1_x",
    "blocks.2.cross_attn.q",
    "final_layer.linear",
    "y_embedder.mlp.fc2",
]
TEXT_LAYERS = ["layers.0.mlp.down_proj", "layers.1.self_attn.q_proj"]
UNDERSCORED = ("lora_unet_", "lycoris_", "lora_transformer_")
LOADED = ["diffusion_model.", "lora_unet_", "base_model.model.", "transformer.", "", "lycoris_"]
TOLD = ["lora_transformer_", "model.diffusion_model."]
NO_EFFECT = "this LoRA changes nothing: it is for another model, or ComfyUI does not know the names in its file"


@dataclass(frozen=True)
class Adapted:
    """Updates by layer, and network and text encoder with them merged."""

    updates: dict[str, tuple[Tensor, Tensor]]
    net: TiM
    text_encoder: TextEncoder


@pytest.fixture(scope="module")
def adapted(pipeline) -> Adapted:
    generator = torch.Generator().manual_seed(5)
    net, model = copy.deepcopy(pipeline.net), copy.deepcopy(pipeline.text_encoder.model)
    updates = {}
    for module, layers in ((net, LAYERS), (model, TEXT_LAYERS)):
        for layer in layers:
            weight = module.get_submodule(layer).weight
            A = 0.3 * torch.randn(2, weight.shape[1], generator=generator)
            B = 0.3 * torch.randn(len(weight), 2, generator=generator)
            updates[layer] = A, B
            weight.data.add_(B @ A, alpha=STRENGTH)
    return Adapted(updates, net, TextEncoder(pipeline.text_encoder.tokenizer, model))


def write(host, adapted: Adapted, prefix: str, layers: list[str]) -> str:
    """Put a LoRA of some layers into the host, under names that start like this; its file, another one for each."""
    name = f"style-{prefix}"  # the host reads a file of one name once
    tensors = {}
    for layer in layers:
        owner = layer.replace(".", "_") if prefix in UNDERSCORED or prefix == "lora_te_" else layer
        for part, matrix in zip("AB", adapted.updates[layer], strict=True):
            tensors[f"{prefix}{owner}.lora_{part}.weight"] = matrix
    save_file(tensors, host.base / "models" / "loras" / f"{name}.safetensors")
    return f"{name}.safetensors"


def with_model_lora(file: str) -> Graph:
    lora = node("LoraLoaderModelOnly", model=["model", 0], lora_name=file, strength_model=STRENGTH)
    return {**text_model(), "lora": lora, "sample": tim_sampler(**{**CONDITIONED, "model": ["lora", 0]})}


def with_lora(file: str) -> Graph:
    """Network and text encoder through the stock loader of both."""
    strengths = {"strength_model": STRENGTH, "strength_clip": STRENGTH}
    lora = node("LoraLoader", model=["model", 0], clip=["clip", 0], lora_name=file, **strengths)
    prompts = {"positive": prompt(FOX, "adapted"), "negative": prompt(UGLY, "adapted")}
    clip = node("CLIPSetLastLayer", clip=["lora", 1], stop_at_clip_layer=-1)
    sample = tim_sampler(**{**CONDITIONED, "model": ["lora", 0]})
    return {**text_model(), **prompts, "lora": lora, "adapted": clip, "sample": sample}


def with_hook(file: str) -> Graph:
    """Network and text encoder through a LoRA hook."""
    strengths = {"strength_model": STRENGTH, "strength_clip": STRENGTH}
    hook = node("CreateHookLora", lora_name=file, **strengths)
    clip = node("SetClipHooks", clip=["clip", 0], hooks=["hook", 0], apply_to_conds=True, schedule_clip=False)
    prompts = {"positive": prompt(FOX, "hooked"), "negative": prompt(UGLY, "hooked")}
    return {**text_model(), **prompts, "hook": hook, "hooked": clip, "sample": ksampler(**CONDITIONED)}


def saved(graph: Graph) -> Graph:
    return {**graph, "saved": node("SaveLatent", samples=["sample", 0], filename_prefix="lora")}


@pytest.mark.parametrize("prefix", LOADED)
def test_names_that_the_stock_loader_reads(host, pipeline, adapted, prefix):
    graph = with_model_lora(write(host, adapted, prefix, LAYERS))
    assert shown(host, saved(graph)) == []
    expected = text_reference(with_net(pipeline, adapted.net))
    assert (expected - text_reference(pipeline)).abs().max() > 0.1, "the LoRA has no effect"
    assert_same_latents(run_text_latent(host, graph, pipeline), expected)


def with_net(pipeline, net: TiM):
    changed = copy.copy(pipeline)
    changed.net = net
    return changed


@pytest.mark.parametrize(("prefix", "layers"), [*((p, LAYERS) for p in TOLD), ("lora_te_", TEXT_LAYERS)])
def test_other_names_are_told_on_the_loader_and_load_once_converted(host, pipeline, adapted, tmp_path, prefix, layers):
    file = write(host, adapted, prefix, layers)
    printed = len(host.log)
    ((place, line),) = shown(host, saved(with_lora(file)))
    assert place == "lora" and line.startswith(NO_EFFECT) and "python -m tim_model convert FILE OUT" in line
    assert host.log[printed:].count(NO_EFFECT) == 1
    loras = host.base / "models" / "loras"
    assert main(["convert", str(loras / file), str(loras / f"converted-{file}")]) == 0
    graph = with_lora(f"converted-{file}")
    assert shown(host, saved(graph)) == []
    both = (adapted.net, None) if layers is LAYERS else (pipeline.net, adapted.text_encoder)
    assert_same_latents(run_text_latent(host, graph, pipeline), reference(pipeline, *both))


def reference(pipeline, net: TiM, text_encoder: TextEncoder | None, **options) -> Tensor:
    encoder = text_encoder or pipeline.text_encoder
    features = encoder.encode([FOX, UGLY])
    condition = Condition(*pad_features(features, encoder.pad_feature).split(1))
    return text_reference(with_net(pipeline, net), condition, **options)


@pytest.mark.parametrize("prefix", [*LOADED, *TOLD])
def test_hooks_read_every_style_of_names(host, pipeline, adapted, prefix):
    graph = with_hook(write(host, adapted, prefix, LAYERS))
    assert shown(host, saved(graph)) == []
    expected = reference(pipeline, adapted.net, None, guidance_interval=EVERY_STEP)
    assert_same_latents(run_text_latent(host, graph, pipeline), expected)


def test_hooks_read_names_of_the_text_encoder(host, pipeline, adapted):
    graph = with_hook(write(host, adapted, "lora_te_", TEXT_LAYERS))
    assert shown(host, saved(graph)) == []
    expected = reference(pipeline, pipeline.net, adapted.text_encoder, guidance_interval=EVERY_STEP)
    assert_same_latents(run_text_latent(host, graph, pipeline), expected)


def test_a_lora_of_another_model_is_told(host):
    A, B = torch.ones(2, 8), torch.ones(8, 2)
    names = ("lora_unet_input_blocks_1_1_proj_in.lora_down.weight", "lora_unet_input_blocks_1_1_proj_in.lora_up.weight")
    save_file(dict(zip(names, (A, B), strict=True)), host.base / "models" / "loras" / "sdxl.safetensors")
    ((place, line),) = shown(host, saved(with_model_lora("sdxl.safetensors")))
    assert place == "lora" and line.startswith(NO_EFFECT)
    told = {line for _, line in shown(host, saved(with_hook("sdxl.safetensors")))}
    assert told and all(line.startswith(NO_EFFECT) for line in told)


def test_a_lora_of_other_sizes_is_told(host):
    names = ("diffusion_model.blocks.0.attn.qkv.lora_A.weight", "diffusion_model.blocks.0.attn.qkv.lora_B.weight")
    tensors = dict(zip(names, (torch.ones(2, 1152), torch.ones(3456, 2)), strict=True))
    save_file(tensors, host.base / "models" / "loras" / "large.safetensors")
    ((place, line),) = shown(host, saved(with_model_lora("large.safetensors")))
    assert place == "lora"
    assert "is for a model of other sizes" in line and "(3456, 1152), this model (192, 64)" in line


def test_merged_by_the_command_line_as_by_the_host(host, pipeline, adapted):
    """`convert --lora` and the stock loader give the same network."""
    file = write(host, adapted, "base_model.model.", LAYERS)
    models, loras = host.base / "models" / "diffusion_models", host.base / "models" / "loras"
    command = ["convert", str(models / "t2i_model.bin"), str(models / "merged.safetensors")]
    assert main([*command, "--lora", f"{loras / file}:{STRENGTH}"]) == 0
    loaded = with_model_lora(file)
    merged = {**loaded, "lora": node("TiMModelLoader", model_name="merged.safetensors", weight_dtype="default")}
    difference = run_latent(host, loaded) - run_latent(host, merged)
    assert difference.abs().max() <= 1e-5


# In a process of its own, which imports the host's classes.
SCRIPT = """
import importlib.util, sys
host, pack = sys.argv[1:]
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, host)
import utils.install_util  # as in the host's main.py, before a folder of its own hides it
import comfy.options
comfy.options.enable_args_parsing()
import comfy.model_base
spec = importlib.util.spec_from_file_location("pack", pack + "/__init__.py", submodule_search_locations=[pack])
sys.modules["pack"] = importlib.util.module_from_spec(spec)
from pack.nodes.host.lora import LoraNames
base = comfy.model_base.BaseModel
names = [name for name in dir(LoraNames) if name == "__init__" or not name.startswith("__")]
print([name for name in names if getattr(LoraNames, name) is not getattr(base, name, None)])
"""


def test_the_model_takes_nothing_but_names_from_the_families_that_lend_them(host_dir):
    command = [sys.executable, "-c", SCRIPT, str(host_dir), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(host_dir))
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.splitlines()[-1] == "[]"
