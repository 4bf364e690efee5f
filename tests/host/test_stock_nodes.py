"""The host's own nodes and events on a TiM model: saving, merging, LoRA, previews, progress, interruption."""

from __future__ import annotations

import copy
import time

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from devtools.client import Event
from devtools.server import Host
from tests.host.graphs import (
    MODEL_FILE,
    SEED,
    Graph,
    assert_close,
    class_model,
    ksampler,
    loader,
    node,
    reference,
    run_latent,
    tim_sampler,
)
from tim_model import TiM, load_checkpoint, make_times, save_checkpoint
from tim_model.sampling.noise import draw_noise

SHAPE = (1, 3, 32, 32)
TIMES = make_times("uniform", 4)


@pytest.fixture(scope="module")
def net() -> TiM:
    return load_checkpoint(MODEL_FILE)


@pytest.fixture(scope="module")
def other(host, net) -> TiM:
    """Another model of the same architecture, in the host's models as other.safetensors."""
    generator = torch.Generator().manual_seed(1)
    other = copy.deepcopy(net)
    for weight in other.parameters():
        weight.mul_(1 + 0.05 * torch.randn(weight.shape, generator=generator))
    save_checkpoint(other, host.base / "models" / "diffusion_models" / "other.safetensors")
    return other


@pytest.fixture(scope="module")
def noise() -> Tensor:
    return draw_noise(SHAPE, SEED)


def test_saved_model_gives_the_same_bits(host):
    graph = {**class_model(label="5"), "sample": tim_sampler()}
    before = run_latent(host, graph)
    host.run({"model": loader(), "saved": node("ModelSave", model=["model", 0], filename_prefix="saved/tim")})
    (saved,) = (host.base / "output" / "saved").glob("*.safetensors")
    saved.rename(host.base / "models" / "diffusion_models" / "saved.safetensors")
    assert torch.equal(run_latent(host, {**graph, "model": loader("saved.safetensors")}), before)


def mixed(net: TiM, other: TiM, ratio: float) -> TiM:
    """The weights of net and other in the ratio of ModelMergeSimple."""
    result = copy.deepcopy(net)
    for weight, second in zip(result.parameters(), other.parameters()):
        weight.mul_(ratio).add_(second, alpha=1 - ratio)
    return result


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_merge(host, net, other, noise, ratio):
    merge = node("ModelMergeSimple", model1=["model", 0], model2=["second", 0], ratio=ratio)
    graph = {**class_model(), "second": loader("other.safetensors"), "merged": merge}
    found = run_latent(host, {**graph, "sample": tim_sampler(model=["merged", 0])})
    assert_close(found, reference(mixed(net, other, ratio), noise, TIMES))


def test_two_models_in_one_run(host, net, other, noise):
    graph = {**class_model(), "second": loader("other.safetensors")}
    graph |= {"first": tim_sampler(), "sample": tim_sampler(model=["second", 0])}
    assert_close(run_latent(host, graph, "first"), reference(net, noise, TIMES))
    assert_close(run_latent(host, graph), reference(other, noise, TIMES))


ADAPTED = ["blocks.0.attn.qkv", "blocks.3.mlp.fc2", "blocks.5.adaLN_modulation.fc2", "final_layer.linear"]
LORA_KEYS = {  # how a file names a layer and its two factors
    "diffusion_model": (lambda layer: f"diffusion_model.{layer}", "lora_A", "lora_B"),
    "lora_unet": (lambda layer: "lora_unet_" + layer.replace(".", "_"), "lora_down", "lora_up"),
}
RANK, ALPHA, STRENGTH = 4, 2.0, 0.8


def lora_factors(net: TiM) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    factors = {}
    for layer in ADAPTED:
        rows, columns = net.get_submodule(layer).weight.shape
        shapes = (RANK, columns), (rows, RANK)
        factors[layer] = tuple(0.1 * torch.randn(shape, generator=generator) for shape in shapes)
    return factors


@pytest.mark.parametrize("style", LORA_KEYS)
def test_lora(host, net, noise, style):
    key, down, up = LORA_KEYS[style]
    merged, tensors = copy.deepcopy(net), {}
    for layer, (A, B) in lora_factors(net).items():
        tensors |= {f"{key(layer)}.{down}.weight": A, f"{key(layer)}.{up}.weight": B}
        tensors[f"{key(layer)}.alpha"] = torch.tensor(ALPHA)
        merged.get_submodule(layer).weight.add_(B @ A, alpha=STRENGTH * ALPHA / RANK)
    save_file(tensors, host.base / "models" / "loras" / f"{style}.safetensors")
    lora = node("LoraLoaderModelOnly", model=["model", 0], lora_name=f"{style}.safetensors", strength_model=STRENGTH)
    before = len(host.log)
    found = run_latent(host, {**class_model(), "lora": lora, "sample": tim_sampler(model=["lora", 0])})
    assert_close(found, reference(merged, noise, TIMES))
    assert (found - reference(net, noise, TIMES)).abs().max() > 0.1
    assert "lora key not loaded" not in host.log[before:]


def test_models_come_back_after_unloading(host):
    before = run_latent(host, {**class_model(), "sample": tim_sampler()})
    host.free()
    same_but_not_cached = tim_sampler(guidance_low=-0.5)
    assert torch.equal(run_latent(host, {**class_model(), "sample": same_but_not_cached}), before)


def pictures(sampler: dict) -> Graph:
    """A graph that ends in saved images."""
    decode = node("VAEDecode", samples=["sample", 0], vae=["vae", 0])
    graph = {**class_model(), "vae": node("VAELoader", vae_name="pixel_space"), "sample": sampler, "decoded": decode}
    return {**graph, "saved": node("SaveImage", images=["decoded", 0], filename_prefix="picture")}


def watch(host: Host, graph: Graph) -> list[Event]:
    with host.listen() as stream:
        return list(stream.until_finished(host.queue(graph, stream.client_id)))


@pytest.mark.parametrize("sampler", [ksampler, tim_sampler])
def test_every_step_shows_progress_and_a_preview(host, sampler):
    graph = pictures(sampler(seed=21, steps=6))
    events = watch(host, graph)
    steps = [(event.data["value"], event.data["max"]) for event in events if event.type == "progress"]
    assert steps == [(i, 6) for i in range(1, 7)]
    previews = [event.data for event in events if event.type == "preview"]
    assert len(previews) == 6
    (final,) = host.images(host.run(graph))
    last = previews[-1].convert("RGB").resize(final.size)
    difference = to_tensor(last) - to_tensor(final.convert("RGB"))
    assert difference.abs().mean() < 8  # of 255: the last preview is the picture, but for JPEG


def to_tensor(image) -> Tensor:
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).float()


def test_interruption(host):
    graph = pictures(tim_sampler(steps=10000))
    with host.listen() as stream:
        prompt_id = host.queue(graph, stream.client_id)
        for event in stream.until_finished(prompt_id):
            if event.type == "progress" and event.data["value"] == 3:
                host.interrupt()
                interrupted = time.monotonic()
    assert event.type == "execution_interrupted"
    assert time.monotonic() - interrupted < 10  # of the minute or so that all steps take
    assert len(host.images(host.run(pictures(tim_sampler(seed=22))))) == 1


def test_zeroed_out_class_is_no_class(host):
    """Conditioning Zero Out, the usual way to an empty negative."""
    zeroed = node("ConditioningZeroOut", conditioning=["class", 0])
    graph = {**class_model(), "zeroed": zeroed, "told": ksampler(), "sample": ksampler(negative=["zeroed", 0])}
    assert torch.equal(run_latent(host, graph), run_latent(host, graph, "told"))
