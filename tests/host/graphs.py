"""Small API-format graphs for the tests, and the latents that come out of them.

A graph maps node ids, here readable names, to nodes. A link is [id, output]. `class_model` starts most of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save_file
from torch import Tensor

from devtools.client import Client
from tim_model import TiM, sample

ROOT = Path(__file__).resolve().parents[2]
MODEL = "tim-fashion-mnist-c2i.safetensors"
MODEL_FILE = ROOT / "models" / "diffusion_models" / MODEL
SEED = 7
SANDAL = 5
EVERY_STEP = (float("-inf"), float("inf"))  # the interval in which stock samplers guide

Graph = dict[str, dict[str, Any]]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


PIXELS = node("VAELoader", vae_name="pixel_space")


def loader(name: str = MODEL, dtype: str = "default") -> dict[str, Any]:
    return node("TiMModelLoader", model_name=name, weight_dtype=dtype)


def class_model(label: str = "sandal", width: int = 32, height: int = 32, batch: int = 1, name: str = MODEL) -> Graph:
    """The bundled model, a class and an empty latent: "model", "class", "latent"."""
    return {
        "model": loader(name),
        "class": node("TiMClassConditioning", model=["model", 0], label=label),
        "latent": node("TiMEmptyLatent", model=["model", 0], width=width, height=height, batch_size=batch),
    }


CONDITIONED = {"model": ["model", 0], "positive": ["class", 0], "negative": ["class", 1]}


def ksampler(**changes: Any) -> dict[str, Any]:
    settings = {"seed": SEED, "steps": 4, "cfg": 2.5, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    return node("KSampler", **{**CONDITIONED, "latent_image": ["latent", 0], **settings, **changes})


def tim_sampler(**changes: Any) -> dict[str, Any]:
    settings = {"seed": SEED, "steps": 4, "schedule": "uniform", "cfg": 2.5, "guidance_low": 0.0}
    settings |= {"guidance_high": 1.0, "stochasticity": 0.0, "denoise": 1.0}
    return node("TiMSampler", **{**CONDITIONED, "latent_image": ["latent", 0], **settings, **changes})


def guider(**changes: Any) -> dict[str, Any]:
    return node("TiMGuider", **{**CONDITIONED, "cfg": 2.5, "guidance_low": 0.0, "guidance_high": 1.0, **changes})


def schedule(**changes: Any) -> dict[str, Any]:
    settings = {"schedule": "uniform", "steps": 4, "start": 1.0, "end": 0.0, "shift": 3.0, "times": "1, 0"}
    return node("TiMTransitionSchedule", **{**settings, **changes})


def custom_sampling(sampler: dict[str, Any], sigmas: dict[str, Any], seed: int = SEED, cfg: float = 2.5) -> Graph:
    """The stock SamplerCustom as "sample", with its sampler and sigmas."""
    links = {"latent_image": ["latent", 0], "sampler": ["sampler", 0], "sigmas": ["sigmas", 0]}
    sampling = node("SamplerCustom", add_noise=True, noise_seed=seed, cfg=cfg, **CONDITIONED, **links)
    return {"sampler": sampler, "sigmas": sigmas, "sample": sampling}


def advanced_sampling(guider: dict[str, Any], sampler: dict[str, Any], sigmas: dict[str, Any]) -> Graph:
    """The stock SamplerCustomAdvanced as "sample", with all that it takes."""
    links = {name: [name, 0] for name in ("noise", "guider", "sampler", "sigmas")}
    sampling = node("SamplerCustomAdvanced", latent_image=["latent", 0], **links)
    noise = node("RandomNoise", noise_seed=SEED)
    return {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas, "sample": sampling}


def run_latent(host: Client, graph: Graph, name: str = "sample", output: int = 0) -> Tensor:
    """Run the graph and return the latents of one of its nodes, through the stock SaveLatent."""
    graph = {**graph, "saved": node("SaveLatent", samples=[name, output], filename_prefix=name)}
    (file,) = host.run(graph)["saved"]["latents"]
    return load(host.view(**file))["latent_tensor"]


def patched(class_type: str, **inputs: Any) -> Graph:
    """The class model with a node's changes as "patched"."""
    return {**class_model(), "patched": node(class_type, model=["model", 0], **inputs)}


def run_patched(host: Client, class_type: str, sampling: Graph | None = None, **inputs: Any) -> Tensor:
    """Latents of the class model with a node's changes, and with changes to `ksampler`."""
    sampler = ksampler(model=["patched", 0], **(sampling or {}))
    return run_latent(host, {**patched(class_type, **inputs), "sample": sampler})


def texts(host: Client, graph: Graph) -> list[tuple[str, str]]:
    """Run the graph; every text that was put on a node meanwhile, as (node id, text); "" takes an earlier one off."""
    with host.listen() as stream:
        prompt_id = host.queue(graph, stream.client_id)
        texts = [event.data for event in stream.until_finished(prompt_id) if event.type == "text"]
    host.outputs(prompt_id)
    return texts


def shown(host: Client, graph: Graph) -> list[tuple[str, str]]:
    """Run the graph; every text that a node showed its user meanwhile, as (node id, text)."""
    return [(name, text) for name, text in texts(host, graph) if text]


def run_floats(host: Client, graph: Graph, name: str, output: int = 0) -> Tensor:
    """Images (B,3,H,W) in [-1, 1] of one of a graph's nodes with all their digits, which no picture file would keep."""
    encoded = node("VAEEncode", pixels=[name, output], vae=["pixels", 0])
    return run_latent(host, {**graph, "pixels": PIXELS, "encoded": encoded}, "encoded")


def load_latent(base: Path, name: str, latent: Tensor) -> dict[str, Any]:
    """Put a latent into the host's input folder; the node that loads it."""
    current_format = torch.zeros(0)
    save_file({"latent_tensor": latent, "latent_format_version_0": current_format}, base / "input" / f"{name}.latent")
    return node("LoadLatent", latent=f"{name}.latent")


def labels(latent: Tensor, label: int = SANDAL) -> Tensor:
    return torch.full((len(latent),), label)


def reference(net: TiM, state: Tensor, times: list[float], label: int = SANDAL, **options: Any) -> Tensor:
    """`tim_model.sample` from `state`, with the guidance that the graphs here use unless told otherwise."""
    return sample(net, state, times, labels(state, label), **{"cfg": 2.5, **options})


def assert_close(found: Tensor, expected: Tensor, largest: float = 5e-5) -> None:
    """Within 1e-5 in the relative norm and within `largest` everywhere.

    Guidance amplifies the rounding of float32: against float64, single pixels of the library's own results are off
    by 2e-5 where the relative norm says 1e-6.
    """
    assert found.shape == expected.shape
    difference = found.float() - expected.float()
    worst, relative = difference.abs().max().item(), (difference.norm() / expected.norm()).item()
    assert worst <= largest and relative <= 1e-5, f"largest difference {worst:.2g}, relative norm {relative:.2g}"
