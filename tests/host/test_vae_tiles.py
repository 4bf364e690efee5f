"""The high-res VAE nodes: as the stock nodes where memory allows, and in tiles without a word of the host where not."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from devtools.client import PromptFailed
from devtools.random_stack import VAE_FILE
from tests.host.graphs import PIXELS, Graph, load_latent, node, run_floats, run_latent
from tests.host.text_graphs import gradient, load_image
from tim_model.vae.tiles import Tiling, blend_tiles

pytestmark = pytest.mark.usefixtures("stack")
VAES = {"DC-AE": node("TiMVAELoader", vae_name=VAE_FILE), "pixels": PIXELS}


def decode(**changes: Any) -> dict[str, Any]:
    links = {"samples": ["latent", 0], "vae": ["vae", 0]}
    return node("TiMVAEDecodeHighRes", **{**links, "tile_size": 0, "overlap": 256, **changes})


def encode(**changes: Any) -> dict[str, Any]:
    links = {"pixels": ["image", 0], "vae": ["vae", 0]}
    return node("TiMVAEEncodeHighRes", **{**links, "tile_size": 0, "overlap": 256, **changes})


def latent_graph(host, shape: tuple[int, ...]) -> Graph:
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return {"vae": VAES["DC-AE"], "latent": load_latent(host.base, "to_tile", latents)}


@pytest.mark.parametrize("shape", [(1, 32, 4, 4), (3, 32, 3, 5)])
def test_what_fits_is_decoded_as_by_the_stock_node(host, shape):
    """Bit for bit."""
    stock = node("VAEDecode", samples=["latent", 0], vae=["vae", 0])
    graph = {**latent_graph(host, shape), "ours": decode(), "stock": stock}
    assert torch.equal(run_floats(host, graph, "ours"), run_floats(host, graph, "stock"))


@pytest.mark.parametrize("vae", VAES)
def test_what_fits_is_encoded_as_by_the_stock_node(host, vae):
    """Bit for bit, cropped to whole cells too, and for VAEs of the host."""
    graph = {**load_image(host, gradient(150, 100), "to_encode"), "vae": VAES[vae], "ours": encode()}
    assert torch.equal(run_latent(host, graph, "ours"), run_latent(host, graph, "encoded"))


def test_tiles_are_those_of_the_library(host, pipeline):
    latents = torch.randn(1, 32, 4, 26, generator=torch.Generator().manual_seed(3))
    graph = {**latent_graph(host, (1, 32, 4, 26)), "ours": decode(tile_size=512, overlap=128)}
    found = run_floats(host, graph, "ours")

    def picture(x: torch.Tensor) -> torch.Tensor:
        return pipeline.vae.decode(x * pipeline.space.scaling_factor).clamp(-1, 1)

    expected = blend_tiles(picture, latents, Tiling(16, 4, 1), scale=32)
    assert (found - expected).abs().max() <= 1e-4
    assert (found - picture(latents)).abs().max() > 1e-3, "the tiles did not matter"
    graph |= {"again": encode(pixels=["ours", 0], tile_size=512, overlap=128)}
    again = run_latent(host, graph, "again") * pipeline.space.scaling_factor
    expected = blend_tiles(pipeline.vae.encode, found, Tiling(16, 4, 1), ratio=32)
    assert (again - expected).abs().max() <= 1e-4


def test_progress_follows_the_tiles(host):
    """Newer hosts leave out what follows within a tenth of a second."""
    graph = {**latent_graph(host, (1, 32, 1, 48)), "ours": decode(tile_size=544, overlap=32)}
    graph["saved"] = node("SaveImage", images=["ours", 0], filename_prefix="tiles")
    with host.listen() as stream:
        events = list(stream.until_finished(host.queue(graph, stream.client_id)))
    told = [(event.data["value"], event.data["max"]) for event in events if event.type == "progress"]
    assert told == [(i, 3) for i in (1, 2, 3) if (i, 3) in told or i != 2]


REFUSALS = {
    "channels": ((1, 4, 4, 4), {}, ["(1, 4, 4, 4)", "(B, 32, h, w)"]),
    "dimensions": ((1, 32, 1, 4, 4), {}, ["(1, 32, 1, 4, 4)", "(B, 32, h, w)"]),
    "overlap": ((1, 32, 4, 4), {"tile_size": 256, "overlap": 256}, ["tile_size 256", "overlap 256"]),
}


@pytest.mark.parametrize("shape,changes,words", REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_decoded(host, shape, changes, words):
    with pytest.raises(PromptFailed) as caught:
        run_floats(host, {**latent_graph(host, shape), "ours": decode(**changes)}, "ours")
    assert caught.value.node_type == "TiMVAEDecodeHighRes"
    message = caught.value.exception_message
    assert "\n" not in message and [word for word in words if word not in message] == []


def test_image_smaller_than_a_cell(host):
    graph = {**load_image(host, gradient(40, 20), "tiny"), "vae": VAES["DC-AE"], "ours": encode()}
    with pytest.raises(PromptFailed, match="40x20 pixels.*32x32"):
        run_latent(host, graph, "ours")


# In a process of its own, where the VAE can be one that runs out of memory, and memory short.
SCRIPT = """
import importlib.util, json, logging, sys
host, pack, vae_file = sys.argv[1:]
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, host)
import comfy.options
comfy.options.enable_args_parsing()
import comfy.model_management, torch
spec = importlib.util.spec_from_file_location("pack", pack + "/__init__.py", submodule_search_locations=[pack])
sys.modules["pack"] = importlib.util.module_from_spec(spec)
from pack.nodes.host.vae import load_vae
from pack.nodes.host import tiled_vae

told, sides = [], []
handler = logging.Handler()
handler.emit = lambda record: told.append(record.getMessage())
logging.getLogger().addHandler(handler)

vae = load_vae(vae_file)
model, limit = vae.first_stage_model, None

def limited(function, ratio):
    def call(x):
        sides.append(max(x.shape[-2:]) * ratio)
        if limit and sides[-1] > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return function(x)
    return call

model.decode, model.encode = limited(model.decode, 32), limited(model.encode, 1)
latents = torch.randn(1, 32, 2, 40, generator=torch.Generator().manual_seed(0))
results = {}

def run(name, function, *arguments, **options):
    told.clear(), sides.clear()
    try:
        value = function(vae, *arguments, **options)
    except ValueError as error:
        value = str(error)
    results[name] = {"sides": list(sides), "told": [line for line in told if "of memory" in line]}
    results[name]["error"] = value if isinstance(value, str) else None
    return value

whole = run("whole", tiled_vae.decode_in_tiles, latents)
limit = 700
short = run("short", tiled_vae.decode_in_tiles, latents)
encoded = run("encoded", tiled_vae.encode_in_tiles, whole)
limit = None
asked = run("asked", tiled_vae.decode_in_tiles, latents, 640)
expected = run("encoded whole", tiled_vae.encode_in_tiles, whole, 640)
results["same"] = [torch.equal(short, asked), torch.equal(encoded, expected), torch.equal(short, whole)]
limit = 100
run("hopeless", tiled_vae.decode_in_tiles, latents)
limit = None
assert vae.decode(latents).shape == whole.shape and "decode_tiled_" not in vars(vae)  # the VAE itself stays
comfy.model_management.get_free_memory = lambda *ignored: 64 * 800 * 1000 * 4
run("little free memory", tiled_vae.decode_in_tiles, latents)
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def short_of_memory(host_dir, root, stack) -> dict[str, Any]:
    command = [sys.executable, "-c", SCRIPT, str(host_dir), str(root), str(stack / "vae" / VAE_FILE)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_out_of_memory_goes_on_with_smaller_tiles_of_ours(short_of_memory):
    """Of half the side, 40 cells to 20; never the host's own. The log says so."""
    whole, short, encoded = (short_of_memory[name] for name in ("whole", "short", "encoded"))
    assert whole["sides"] == [1280] and whole["told"] == []
    for run in (short, encoded):
        assert run["sides"] == [1280, 640, 640, 640]
        assert "Out of memory with tiles of 1280 pixels, going on with 640." in run["told"]
    assert short_of_memory["same"] == [True, True, False]


def test_out_of_memory_with_the_smallest_tiles(short_of_memory):
    run = short_of_memory["hopeless"]
    assert run["sides"] == [1280, 640, 512]
    assert run["error"].startswith("out of memory with tiles of 512 pixels, the smallest")


def test_free_memory_chooses_the_tile(short_of_memory):
    """Memory for 800 columns of 1280."""
    run = short_of_memory["little free memory"]
    assert run["sides"] == [800, 800] and run["told"] == []
