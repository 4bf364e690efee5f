"""Stock VAE nodes on the VAE of Load TiM VAE give what `tim_model`'s VAE gives; SD-VAE models use the stock loader."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.host.graphs import SEED, Graph, class_model, load_latent, node, tim_sampler
from tests.host.text_graphs import (
    HEIGHT,
    WIDTH,
    assert_same_latents,
    assert_same_pictures,
    gradient,
    load_image,
    loaders,
    run_text_latent,
    to_tensor,
)
from tim_model import TiM, TiMParams, TiMPipeline, make_times, save_checkpoint

pytestmark = pytest.mark.usefixtures("stack")


def saved(image: str = "decoded", **nodes: dict[str, Any]) -> Graph:
    return {**nodes, "saved_image": node("SaveImage", images=[image, 0], filename_prefix="vae")}


def random_latents(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("width,height,batch", [(128, 128, 1), (96, 160, 3)])
def test_decode(host, pipeline, width, height, batch):
    latents = random_latents((batch, 32, height // 32, width // 32))
    graph = {**loaders(), "latent": load_latent(host.base, "to_decode", latents)}
    graph |= saved(decoded=node("VAEDecode", samples=["latent", 0], vae=["vae", 0]))
    expected = pipeline.decode(latents * pipeline.space.scaling_factor)
    assert_same_pictures(host.images(host.run(graph)), expected)


@pytest.mark.parametrize("width,height", [(128, 128), (96, 160)])
def test_encode(host, pipeline, width, height):
    picture = gradient(width, height)
    found = run_text_latent(host, {**loaders(), **load_image(host, picture, "to_encode")}, pipeline, "encoded")
    assert_same_latents(found, pipeline.vae.encode(to_tensor(picture)))


def test_encode_crops_to_whole_cells(host, pipeline):
    """Around the center, as for every VAE of the host."""
    picture = gradient(150, 100)
    found = run_text_latent(host, {**loaders(), **load_image(host, picture, "odd")}, pipeline, "encoded")
    assert_same_latents(found, pipeline.vae.encode(to_tensor(picture.crop((11, 2, 139, 98)))))


def decode_tiled(tile_size: int, overlap: int = 64) -> dict[str, Any]:
    sizes = {"tile_size": tile_size, "overlap": overlap, "temporal_size": 64, "temporal_overlap": 8}
    return node("VAEDecodeTiled", samples=["latent", 0], vae=["vae", 0], **sizes)


def test_decode_tiled_in_one_tile(host, pipeline):
    latents = random_latents((1, 32, 4, 4))
    graph = {**loaders(), "latent": load_latent(host.base, "tiled", latents), **saved(decoded=decode_tiled(1024))}
    expected = pipeline.decode(latents * pipeline.space.scaling_factor)
    assert_same_pictures(host.images(host.run(graph)), expected)


@pytest.mark.parametrize("tile_size,overlap", [(256, 64), (128, 64), (128, 0), (64, 64), (64, 0)])
def test_decode_in_many_tiles(host, tile_size, overlap):
    """Tiles do not see each other, so the picture is another one; but whole and of the right size."""
    latents = random_latents((2, 32, 8, 12))
    graph = {
        **loaders(),
        "latent": load_latent(host.base, "tiles", latents),
        **saved(decoded=decode_tiled(tile_size, overlap)),
    }
    pictures = host.images(host.run(graph))
    assert [picture.size for picture in pictures] == [(384, 256)] * 2
    assert all(np.array(picture).std(axis=0).min() > 0 for picture in pictures)  # no empty column


@pytest.mark.parametrize("tile_size", [512, 128])
def test_encode_tiled(host, pipeline, tile_size):
    sizes = {"tile_size": tile_size, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8}
    graph = {**loaders(), **load_image(host, gradient(192, 128), "to_tile")}
    graph["encoded"] = node("VAEEncodeTiled", pixels=["image", 0], vae=["vae", 0], **sizes)
    found = run_text_latent(host, graph, pipeline, "encoded")
    assert found.shape == (1, 32, 4, 6) and found.isfinite().all()
    if tile_size == 512:
        assert_same_latents(found, pipeline.vae.encode(to_tensor(gradient(192, 128))))


def test_encode_for_inpaint(host, pipeline):
    """The masked half is gray to the VAE, and only it is drawn anew."""
    masked = gradient()
    half = Image.new("L", (WIDTH, HEIGHT), 255)
    half.paste(0, (0, 0, WIDTH // 2, HEIGHT))
    masked.putalpha(half)
    graph = {**loaders(), **load_image(host, masked, "for_inpaint")}
    inputs = {"pixels": ["image", 0], "vae": ["vae", 0], "mask": ["image", 1], "grow_mask_by": 0}
    found = run_text_latent(host, {**graph, "sample": node("VAEEncodeForInpaint", **inputs)}, pipeline)
    gray = to_tensor(gradient())
    gray[..., : WIDTH // 2] = 0
    assert_same_latents(found, pipeline.vae.encode(gray))


def test_saved_vae_loads(host, pipeline, stack):
    """VAE Save writes one file that needs no others beside it."""
    save = node("VAESave", vae=["vae", 0], filename_prefix="vae/saved")
    host.run({"vae": loaders()["vae"], "save": save})
    (file,) = (host.base / "output" / "vae").glob("saved*.safetensors")
    shutil.copy(file, stack / "vae" / "saved.safetensors")
    graph = {"vae": node("TiMVAELoader", vae_name="saved.safetensors"), **load_image(host, gradient(), "gradient")}
    found = run_text_latent(host, graph, pipeline, "encoded")
    assert_same_latents(found, pipeline.vae.encode(to_tensor(gradient())))


def test_vae_works_after_it_was_unloaded(host, pipeline):
    for name in ("before", "after"):
        picture = gradient().rotate(len(name))
        found = run_text_latent(host, {**loaders(), **load_image(host, picture, name)}, pipeline, "encoded")
        assert_same_latents(found, pipeline.vae.encode(to_tensor(picture)))
        host.free()


SMALL_CLASS = TiMParams(
    in_channels=4, patch_size=2, hidden_size=64, depth=2, num_heads=4, mlp_hidden=170, adaln_hidden=24, num_classes=10
)


@pytest.fixture(scope="module")
def class_pipeline(stack) -> TiMPipeline:
    """A small class model in the latents of a random SD-VAE."""
    from devtools.random_stack import randomize, write_sd_vae

    write_sd_vae(stack / "vae" / "sd-vae-ft-ema")
    net = randomize(TiM(SMALL_CLASS), seed=7)
    save_checkpoint(net, stack / "diffusion_models" / "small_class.safetensors")
    return TiMPipeline.from_files(
        stack / "diffusion_models" / "small_class.safetensors", vae=stack / "vae" / "sd-vae-ft-ema", device="cpu"
    )


def test_class_model_with_the_stock_sd_vae(host, class_pipeline):
    graph = class_model(label="3", width=64, height=48, batch=2, name="small_class.safetensors")
    graph["vae"] = node("VAELoader", vae_name="sd-vae-ft-ema/diffusion_pytorch_model.safetensors")
    graph["sample"] = tim_sampler()
    graph |= saved(decoded=node("VAEDecode", samples=["sample", 0], vae=["vae", 0]))
    times = make_times("uniform", 4)
    expected = class_pipeline(classes=["3", "3"], times=times, size=(64, 48), seed=SEED, cfg=2.5)
    assert_same_pictures(host.images(host.run(graph)), expected, tolerance=2e-4)
