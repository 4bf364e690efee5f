"""A LoRA that the training command made, in the host's own loader: the checkpoint with its updates merged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from devtools.random_stack import MODEL_FILE as TEXT_MODEL
from devtools.random_stack import TEXT_ENCODER_FILE, VAE_FILE
from devtools.server import Host
from tests.host.graphs import MODEL_FILE, Graph, class_model, loader, node, run_latent, tim_sampler
from tests.host.text_graphs import CONDITIONED, text_model
from tests.training.tiny import start, write_picture, write_recipe
from tim_model import TiM, load_checkpoint, save_checkpoint

RANK, ALPHA = 4, 6.0  # the updates are scaled by 1.5
LORA = [f"model.lora_rank={RANK}", f"model.lora_alpha={ALPHA}", "optimizer.lr=0.02", "run.steps=6", "ema.decay=0.5"]


@dataclass(frozen=True)
class Case:
    """A model in the host, and a LoRA of it there, loras/<name>.safetensors."""

    name: str
    net: TiM
    graph: Callable[[], Graph]  # all nodes but the sampler
    sampler: Graph
    updates: dict[str, Tensor]  # the tensors of the LoRA


def train(host: Host, folder: Path, name: str, checkpoint: Path, *overrides: str) -> dict[str, Tensor]:
    """Make a LoRA of a few steps on the pictures in `folder`, and put it into the host; its tensors."""
    process = start(write_recipe(folder, folder / "data"), f"model.checkpoint={checkpoint}", *LORA, *overrides)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    path = host.base / "models" / "loras" / f"{name}.safetensors"
    (folder / "run" / "lora-ema.safetensors").rename(path)
    return load_file(path)


def class_graph() -> Graph:
    return class_model(label="5")  # a merged file has no names of classes


@pytest.fixture(scope="module")
def class_case(host, tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("class")
    for i in range(6):
        write_picture(folder / "data" / ("bag", "coat")[i % 2] / f"{i}.png", (32, 32), seed=i)
    updates = train(host, folder, "class-lora", MODEL_FILE)
    return Case("class-lora", load_checkpoint(MODEL_FILE), class_graph, tim_sampler(), updates)


@pytest.fixture(scope="module")
def text_case(host, stack, tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("text")
    for i, caption in enumerate(["a fox", "two oxen", "a red fox", "no ox"]):
        write_picture(folder / "data" / f"{i}.png", (64, 64), seed=i).with_suffix(".txt").write_text(caption)
    checkpoint = stack / "diffusion_models" / TEXT_MODEL
    encoder, vae = (stack / "text_encoders" / TEXT_ENCODER_FILE).parent, (stack / "vae" / VAE_FILE).parent
    options = [f"model.text_encoder={encoder}", f"model.vae={vae}", "data.resolution=64"]
    updates = train(host, folder, "text-lora", checkpoint, *options)
    return Case("text-lora", load_checkpoint(checkpoint), text_model, tim_sampler(**CONDITIONED), updates)


@pytest.fixture(params=["class_case", "text_case"])
def case(request) -> Case:
    return request.getfixturevalue(request.param)


def merge(net: TiM, updates: dict[str, Tensor], strength: float) -> TiM:
    """The network with W + strength * alpha / rank * B A for W."""
    merged = copy.deepcopy(net)
    for layer in {key.split(".lora_")[0] for key in updates if ".lora_" in key}:
        A, B, alpha = (updates[f"{layer}.{part}"] for part in ("lora_A.weight", "lora_B.weight", "alpha"))
        weight = merged.get_submodule(layer.removeprefix("diffusion_model.")).weight
        weight.add_(B @ A, alpha=strength * float(alpha) / len(A))
    return merged


def sampler_of(case: Case, model: str) -> Graph:
    """The sampler node on another model."""
    return {**case.sampler, "inputs": {**case.sampler["inputs"], "model": [model, 0]}}


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_host_gives_the_merged_checkpoint(host, case, strength):
    name = f"{case.name}-{strength}.safetensors"
    save_checkpoint(merge(case.net, case.updates, strength), host.base / "models" / "diffusion_models" / name)
    inputs = {"model": ["model", 0], "lora_name": f"{case.name}.safetensors", "strength_model": strength}
    graph, printed = case.graph(), len(host.log)
    plain = run_latent(host, {**graph, "sample": case.sampler})
    lora = {"lora": node("LoraLoaderModelOnly", **inputs), "sample": sampler_of(case, "lora")}
    adapted = run_latent(host, {**graph, **lora})
    merged = run_latent(host, {**graph, "model": loader(name), "sample": case.sampler})
    assert (adapted - merged).abs().max() <= 1e-5
    assert (adapted - plain).abs().max() > 0.05, "the LoRA has no effect"
    assert "not loaded" not in host.log[printed:]


def test_every_update_was_trained(case):
    """One that training never reached, with B = 0, would prove nothing above."""
    shapes = {len(value) for key, value in case.updates.items() if key.endswith("lora_A.weight")}
    assert shapes == {RANK}
    assert all(value.abs().max() > 0 for key, value in case.updates.items() if key.endswith("lora_B.weight"))
