"""ComfyUI's own nodes on TiM's files fail with the messages that docs/troubleshooting.md explains."""

from __future__ import annotations

import re
import shutil

import pytest

from devtools.client import PromptFailed, PromptRejected
from tests.host.graphs import MODEL_FILE, PIXELS, loader, node

DEMO = {"model": "tim-fashion-scenes-t2i", "clip": "gemma-fashion-scenes", "vae": "dc-ae-fashion-scenes"}
FILES = {name: f"{stem}.safetensors" for name, stem in DEMO.items()}
CHECKPOINT = "tim-in-checkpoints.safetensors"
CASES = {
    "UNETLoader": node("UNETLoader", unet_name=FILES["model"], weight_dtype="default"),
    "CheckpointLoaderSimple": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
    "CLIPLoader": node("CLIPLoader", clip_name=FILES["clip"], type="stable_diffusion"),
    "VAELoader": node("VAELoader", vae_name=FILES["vae"]),
    "FreeU": node("FreeU", model=["model", 0], b1=1.1, b2=1.2, s1=0.9, s2=0.2),
}
OTHERS = {  # the graph in front of the node that fails
    "SaveImage": {
        "latent": node("TiMEmptyLatent", model=["demo", 0], width=0, height=0, batch_size=1),
        "demo": loader(FILES["model"]),
        "pixels": PIXELS,
        "stock": node("VAEDecode", samples=["latent", 0], vae=["pixels", 0]),
        "save": node("SaveImage", images=["stock", 0], filename_prefix="never"),
    }
}
OUTPUTS = {"CLIPLoader": ("CLIPSave", "clip"), "VAELoader": ("VAESave", "vae")}


@pytest.fixture(scope="module")
def explained(root) -> list[re.Pattern]:
    """The messages of ComfyUI in the documentation; … stands for anything."""
    page = (root / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    section = page.partition("## Messages of ComfyUI itself")[2].partition("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    return [re.compile(".*".join(map(re.escape, message.split("…")))) for message in messages]


@pytest.fixture(scope="module")
def checkpoint(host):
    """A model among the host's checkpoints."""
    path = host.base / "models" / "checkpoints" / CHECKPOINT
    path.parent.mkdir(exist_ok=True)
    shutil.copy(MODEL_FILE, path)
    yield path
    path.unlink()


@pytest.mark.usefixtures("checkpoint")
@pytest.mark.parametrize("class_type", [*CASES, *OTHERS])
def test_failures_of_stock_nodes_are_explained(host, explained, class_type):
    output, name = OUTPUTS.get(class_type, ("ModelSave", "model"))
    graph = OTHERS.get(class_type) or {
        "stock": CASES[class_type],
        "save": node(output, **{name: ["stock", 0]}, filename_prefix="never"),
    }
    with pytest.raises(PromptFailed) as caught:
        host.run({"model": loader(), **graph})
    kind = caught.value.details["exception_type"].rpartition(".")[2]
    said = f"{kind}: {caught.value.exception_message}"
    assert caught.value.node_type == class_type
    assert any(message.search(said) for message in explained), said


def test_a_missing_pack_is_explained(host, explained):
    with pytest.raises(PromptRejected) as caught:
        host.run({"model": node("TiMModelLoaderOfAnotherPack"), "save": node("ModelSave", model=["model", 0])})
    assert any(message.search(str(caught.value)) for message in explained), str(caught.value)
