"""Large images through a VAE in tiles: as large as memory allows, and never short of it without a word."""

from __future__ import annotations

import logging

import pytest
import torch

from devtools.random_stack import DC_AE, SMALL_DC_AE, randomize
from tim_model.network import memory
from tim_model.network.memory import DECODE_BYTES
from tim_model.vae import tiled_vae
from tim_model.vae.autoencoder import VAE
from tim_model.vae.tiled_vae import blend_what_fits, choose_tile, decode_in_tiles, encode_in_tiles, trim_tile
from tim_model.vae.tiles import Tiling, blend_tiles, plan_tiles

from .test_tiles import PLANS, steepest

CELL_BYTES = 1000


@pytest.mark.parametrize(
    ("cells", "size", "tile"),
    [
        (128 * 128, (128, 128), 128),
        (128 * 128 - 1, (128, 128), 127),
        (10**9, (128, 64), 128),
        (64 * 100, (64, 128), 100),
        (50 * 50, (64, 128), 50),
        (1, (128, 128), 16),
        (0, (128, 128), 16),
        (1, (8, 4), 8),
    ],
)
def test_largest_tile_that_fits(cells, size, tile):
    assert choose_tile(cells * CELL_BYTES, *size, CELL_BYTES, minimum=16) == tile


def test_tiles_of_a_4096_picture_on_common_devices():
    """Pixels of DC-AE tiles in bfloat16."""
    cell_bytes = DECODE_BYTES * 2 * 32**2
    sides = [32 * choose_tile(gib * 2**30, 128, 128, cell_bytes, 16) for gib in (1, 3, 8, 24, 48)]
    assert sides == [704, 1248, 2048, 3584, 4096]


@pytest.mark.parametrize(("length", "tile", "overlap"), PLANS)
def test_trimmed_tiles_are_as_many_and_none_could_be_smaller(length, tile, overlap):
    trimmed, count = trim_tile(tile, (length,), overlap, 1), len(plan_tiles(length, tile, overlap))
    assert len(plan_tiles(length, trimmed, overlap)) == count
    assert trimmed - 1 <= overlap or len(plan_tiles(length, trimmed - 1, overlap)) > count


def test_trimming_stops_where_tiles_would_leave_marks():
    assert trim_tile(90, (128, 128), 8, 32) == 68  # two tiles on each axis, which share 8
    assert trim_tile(90, (128, 64), 8, 32) == 68  # one on the shorter
    assert trim_tile(32, (36, 36), 8, 32) == 32
    assert trim_tile(16, (36, 36), 8, 32) == 16


def test_memory_that_torch_keeps_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    assert memory.free_memory(torch.device("cuda")) == 500


OUT_OF_MEMORY = {
    "cuda": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
}


def doubling(limit: int, error: Exception):
    """A function that runs out of memory above `limit` cells a side, and the sides it saw."""
    sides = []

    def function(x: torch.Tensor) -> torch.Tensor:
        sides.append(max(x.shape[-2:]))
        if sides[-1] > limit:
            raise error
        return 2 * x

    return function, sides


@pytest.mark.parametrize("device", OUT_OF_MEMORY)
def test_smaller_tiles_when_memory_runs_out(device, caplog):
    function, sides = doubling(15, OUT_OF_MEMORY[device])
    x = torch.randn(1, 1, 60, 20)
    with caplog.at_level(logging.WARNING):
        blended = blend_what_fits(function, x, Tiling(100, 4), minimum=10)
    torch.testing.assert_close(blended, 2 * x)
    assert list(dict.fromkeys(sides)) == [60, 30, 15]
    assert caplog.messages == [
        "Out of memory with tiles of 60 pixels, going on with 30.",
        "Out of memory with tiles of 30 pixels, going on with 15.",
    ]


def test_several_pictures_at_once_until_memory_runs_out():
    seen = []

    def function(x: torch.Tensor) -> torch.Tensor:
        seen.append((len(x), x.shape[-1]))
        if len(x) > 1:
            raise OUT_OF_MEMORY["cuda"]
        return 2 * x

    x = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(blend_what_fits(function, x, Tiling(16, 4), 8, lambda text: None, batch=2), 2 * x)
    assert seen[0] == (2, 16) and set(seen[1:]) == {(1, 8)}


def test_giving_up_at_the_smallest_tiles():
    function, sides = doubling(8, OUT_OF_MEMORY["cuda"])
    told = []
    with pytest.raises(
        ValueError, match="^out of memory with tiles of 40 pixels, the smallest: free memory"
    ) as refusal:
        blend_what_fits(function, torch.zeros(1, 1, 32, 32 * 4), Tiling(25, 4), 10, told.append, scale=4)
    assert sides == [25, 12, 10]
    assert [text.split()[-1] for text in told] == ["48.", "40."]
    assert "\n" not in str(refusal.value)
    assert refusal.value.__context__ is None  # whose traceback would hold on to the memory


def test_other_errors_pass():
    function, _ = doubling(0, RuntimeError("expected 4 channels"))
    with pytest.raises(RuntimeError, match="^expected 4 channels$"):
        blend_what_fits(function, torch.zeros(1, 1, 8, 8), Tiling(8, 2), 1)


def small_vae(**config: object) -> VAE:
    diffusers = pytest.importorskip("diffusers")
    return VAE(randomize(diffusers.AutoencoderDC(**DC_AE | SMALL_DC_AE | config), seed=3))


@pytest.fixture(scope="module")
def local_vae() -> VAE:
    """Convolutions alone; its decoder sees less than 7 cells far, its encoder less than 4."""
    return small_vae(encoder_block_types="ResBlock", decoder_block_types="ResBlock")


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def test_vae_in_tiles_beyond_its_receptive_field_is_exact(local_vae):
    latents = torch.randn(1, 32, 1, 20)
    whole = local_vae.decode(latents)
    tiled = blend_tiles(local_vae.decode, latents, Tiling(17, 14, 7), scale=32)
    assert whole.shape == tiled.shape == (1, 3, 32, 640)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        blend_tiles(local_vae.encode, whole, Tiling(17, 14, 7), ratio=32), local_vae.encode(whole), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(("attention", "decoded", "encoded"), [(False, 1e-3, 1e-3), (True, 0.3, 0.06)])
def test_vae_in_tiles_of_pixels(attention, decoded, encoded, local_vae):
    """Two cells that count for nothing make convolutions agree; the attention of a tile sees another picture."""
    vae = small_vae() if attention else local_vae
    latents, calls = torch.randn(1, 32, 2, 20), []
    images = decode_in_tiles(vae, latents, tile=512, on_tile=lambda *progress: calls.append(progress))
    whole = vae.decode(latents)
    assert images.shape == whole.shape == (1, 3, 64, 640)
    assert calls == [(1, 2), (2, 2)]
    assert relative_error(images, whole) < decoded
    tiled = encode_in_tiles(vae, whole, tile=512)
    assert tiled.shape == latents.shape
    assert relative_error(tiled, vae.encode(whole)) < encoded


def test_attention_leaves_no_seams():
    """On even latents the blend differs from the whole picture, but by no step."""
    vae, latents = small_vae(), torch.ones(1, 32, 1, 20)
    latents *= torch.linspace(0.5, 1, 20)
    whole = vae.decode(latents)
    hard, soft = blend_tiles(vae.decode, latents, Tiling(10, 0), scale=32), decode_in_tiles(vae, latents, tile=512)
    assert steepest(soft - whole) < 0.1 * steepest(hard - whole)


def test_whole_picture_in_one_tile_where_memory_allows(local_vae, monkeypatch):
    monkeypatch.setattr(tiled_vae, "free_memory", lambda device: 2**40)
    latents, images = torch.randn(3, 32, 2, 3), torch.randn(3, 3, 64, 32)
    assert torch.equal(decode_in_tiles(local_vae, latents), local_vae.decode(latents))
    assert torch.equal(encode_in_tiles(local_vae, images), local_vae.encode(images))


def test_pictures_of_a_batch_one_by_one_where_only_one_fits(local_vae, monkeypatch):
    latents, calls = torch.randn(3, 32, 2, 3), []
    monkeypatch.setattr(tiled_vae, "free_memory", lambda device: 2 * 64 * 96 * DECODE_BYTES * 4)
    pictures = decode_in_tiles(local_vae, latents, on_tile=lambda *progress: calls.append(progress))
    assert calls == [(1, 2), (2, 2)]  # two, then one
    torch.testing.assert_close(pictures, local_vae.decode(latents))


@pytest.mark.parametrize(("free", "most", "count"), [(2**40, 2**23, 1), (0, 2**23, 3), (2**40, 16 * 32**2, 3)])
def test_memory_and_torch_limit_the_tile(free, most, count, local_vae, monkeypatch):
    monkeypatch.setattr(tiled_vae, "free_memory", lambda device: free)
    monkeypatch.setattr(tiled_vae, "MAX_PIXELS", most)
    calls = []
    decode_in_tiles(local_vae, torch.randn(1, 32, 1, 26), on_tile=lambda *progress: calls.append(progress))
    assert len(calls) == count


def test_inputs_that_do_not_fit(local_vae):
    with pytest.raises(ValueError, match=r"\(1, 4, 2, 2\), expected \(B, 32, h, w\)"):
        decode_in_tiles(local_vae, torch.zeros(1, 4, 2, 2))
    with pytest.raises(ValueError, match="40x64 pixels in tiles: expected multiples of 32"):
        encode_in_tiles(local_vae, torch.zeros(1, 3, 64, 40))
    with pytest.raises(ValueError, match="20 cells in tiles of 8 that share 8"):
        decode_in_tiles(local_vae, torch.zeros(1, 32, 1, 20), tile=256)
