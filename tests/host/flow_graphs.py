"""Graphs of small SD3 and FLUX.1 models with random weights, see packs/flow_models.py."""

from __future__ import annotations

from devtools.client import Client
from tests.host.graphs import Graph, node

SMALL_SD3 = "small-sd3.safetensors"


def write_small_sd3(host: Client) -> None:
    """SMALL_SD3 in the host's folders, as a network alone and as a checkpoint with a VAE."""
    host.run({"write": node("TestWriteSmallSD3")})


def other_families(host: Client) -> dict[str, Graph]:
    """SD3 by its file and FLUX.1 by its config, as "model", with conditioning and an empty latent of two images."""
    write_small_sd3(host)
    conditions = {
        "positive": node("TestTextLikeConditioning", seed=1),
        "negative": node("TestTextLikeConditioning", seed=2),
        "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=2),
    }
    sd3 = node("UNETLoader", unet_name=SMALL_SD3, weight_dtype="default")
    return {"sd3": {"model": sd3, **conditions}, "flux": {"model": node("TestSmallFlux"), **conditions}}


def with_small_peers(prompt: Graph) -> Graph:
    """A graph in which checkpoints of SD3.5 and FLUX.1 are the small models, and their text encoders fixed features.

    Text encoders cannot be small: the host builds them at their full size.
    """
    kinds = {name: entry["class_type"] for name, entry in prompt.items()}
    loaders = {name for name, kind in kinds.items() if kind in ("CheckpointLoaderSimple", "TripleCLIPLoader")}
    flux = {name for name in loaders if "flux" in str(prompt[name]["inputs"].get("ckpt_name"))}
    made: Graph = {}
    for name, entry in prompt.items():
        links = {key: value for key, value in entry["inputs"].items() if isinstance(value, list)}
        moved = {key: ["flux", 0] for key, (origin, slot) in links.items() if origin in flux and slot == 0}
        if kinds[name] == "CLIPTextEncode" and links["clip"][0] in loaders:
            made[name] = node("TestTextLikeConditioning", seed=1)
        elif kinds[name] == "CheckpointLoaderSimple":
            made[name] = node("CheckpointLoaderSimple", ckpt_name=SMALL_SD3)
        elif kinds[name] != "TripleCLIPLoader":
            made[name] = {**entry, "inputs": entry["inputs"] | moved}
    return {**made, "flux": node("TestSmallFlux")} if flux else made
