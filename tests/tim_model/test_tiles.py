"""Blends of tiles: exact where they can be, without seams where not, and never short of memory without a word."""

from __future__ import annotations

import logging
import weakref
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from devtools.random_stack import DC_AE, SMALL_DC_AE, randomize
from tim_model import memory, tiles
from tim_model.memory import DECODE_BYTES
from tim_model.tiles import (
    blend_tiles,
    blend_what_fits,
    choose_tile,
    decode_in_tiles,
    encode_in_tiles,
    feather,
    plan_tiles,
    trim_tile,
)
from tim_model.vae import VAE

PLANS = [(1, 8, 2), (8, 8, 2), (9, 8, 2), (20, 8, 2), (21, 8, 4), (100, 16, 5), (13, 8, 7), (17, 8, 0), (128, 32, 8)]


@pytest.mark.parametrize(("length", "tile", "overlap"), PLANS)
def test_plan_covers_the_axis_with_equal_tiles(length, tile, overlap):
    plan = plan_tiles(length, tile, overlap)
    assert {stop - start for start, stop in plan} == {min(length, tile)}
    assert (plan[0][0], plan[-1][1]) == (0, length)
    assert all(left[1] - right[0] >= overlap for left, right in pairwise(plan))
    reach = tile + (len(plan) - 2) * (tile - overlap)  # of one tile less
    assert len(plan) == 1 or reach < length
    spacings = {right[0] - left[0] for left, right in pairwise(plan)}
    assert not spacings or max(spacings) - min(spacings) <= 1


@pytest.mark.parametrize(("length", "tile", "overlap"), [(0, 8, 2), (9, 8, 8), (9, 8, -1), (9, 0, 0), (9, -1, 0)])
def test_impossible_plans_are_refused(length, tile, overlap):
    with pytest.raises(ValueError, match=f"^{length} cells in tiles of {tile} that share {overlap}: expected .*$"):
        plan_tiles(length, tile, overlap)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("length", "tile", "overlap"), PLANS)
def test_weights_sum_to_one_and_leave_margins_out(length, tile, overlap, half):
    plan, margin = plan_tiles(length, tile, overlap), overlap // 2 if half else overlap // 4
    total = torch.zeros(length)
    for (start, stop), weight in zip(plan, feather(plan, margin)):
        assert weight.dtype == torch.float32
        assert weight.min() >= 0
        total[start:stop] += weight
        if margin and start > 0:
            assert weight[:margin].count_nonzero() == 0
        if margin and stop < length:
            assert weight[-margin:].count_nonzero() == 0
    torch.testing.assert_close(total, torch.ones(length), atol=2e-7, rtol=0)


def test_weights_are_a_raised_cosine():
    left, right = feather([(0, 8), (4, 12)], margin=1)
    assert left[:5].tolist() == [1] * 5
    assert left[5:].tolist() == pytest.approx([0.8535534, 0.1464466, 0])  # cos² of 22.5° and of 67.5°
    torch.testing.assert_close(right, left.flip(0))


def test_margins_wider_than_the_overlap_are_refused():
    with pytest.raises(ValueError, match="^margin 3: expected 0 to 2, half of what neighbors share$"):
        feather([(0, 8), (4, 12)], margin=3)


def affine(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([2 * x[:, 0] - x[:, 1] + 3, x.sum(1)], dim=1)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (21, 21), (17, 30)])
def test_functions_of_single_cells_are_exact(size):
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(blend_tiles(affine, x, 8, 3), affine(x))


def test_upscaling_and_downscaling_are_exact():
    x = torch.randn(1, 3, 7, 19)
    large = F.interpolate(x, scale_factor=4)
    torch.testing.assert_close(
        blend_tiles(lambda t: F.interpolate(t, scale_factor=4), x, 6, 3, scale=4, margin=1), large
    )
    torch.testing.assert_close(blend_tiles(lambda t: F.avg_pool2d(t, 4), large, 6, 3, ratio=4, margin=1), x)


def conv_net(radius: int) -> torch.nn.Sequential:
    """Sees `radius` cells to either side, and zeros beyond the border, of one channel."""
    torch.manual_seed(0)
    layers = [torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.GELU()) for _ in range(radius - 1)]
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 1), *layers, torch.nn.Conv2d(8, 1, 3, padding=1))
    return randomize(net, seed=0).requires_grad_(False)


def smooth(height: int, width: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 4, width), indexing="ij")
    return (2 + torch.sin(x + y))[None, None]


def test_margin_of_the_receptive_field_is_exact():
    """Zero padding included: at the picture's own borders tiles and picture see the same."""
    net, x = conv_net(radius=3), torch.randn(1, 1, 20, 40)
    torch.testing.assert_close(blend_tiles(net, x, 12, 6, margin=3), net(x))
    torch.testing.assert_close(blend_tiles(net, x, 12, 8, margin=3), net(x))
    assert (blend_tiles(net, x, 12, 6, margin=1) - net(x)).abs().max() > 1e-3


def steepest(picture: torch.Tensor) -> float:
    """The largest step from one column to the next; not at the borders, where the picture itself bends."""
    return (picture[..., 1:] - picture[..., :-1]).abs()[..., 6:-6].max().item()


def test_no_seams_where_tiles_are_not_exact():
    """Real convolutions that see 3 cells far, a margin of 2: nowhere is the blend steeper than the picture."""
    net, x = conv_net(radius=3), smooth(24, 96)
    whole, soft = net(x), blend_tiles(net, x, 32, 12, margin=2)
    assert not torch.allclose(soft, whole, rtol=1e-4)
    assert steepest(soft) < 1.02 * steepest(whole)
    assert steepest(soft - whole) < 0.1 * steepest(whole)
    assert steepest(blend_tiles(net, x, 32, 0)) > 5 * steepest(whole)  # what a seam looks like


def test_one_tile_is_alive_at_a_time():
    alive, peak, calls = set(), [], []

    def function(x: torch.Tensor) -> torch.Tensor:
        peak.append(len(alive) + 1)
        result = x * 2
        alive.add(id(result))
        weakref.finalize(result, alive.discard, id(result))
        return result

    x = torch.randn(2, 1, 20, 12)
    blended = blend_tiles(function, x, 8, 2, on_tile=lambda *progress: calls.append(progress))
    torch.testing.assert_close(blended, 2 * x)
    assert peak == [1] * 12  # 2 pictures of 3x2 tiles
    assert calls == [(done, 12) for done in range(1, 13)]


def test_half_precision_is_added_up_in_float32():
    blended = blend_tiles(lambda x: (x + 1).bfloat16(), torch.zeros(1, 1, 30, 30), 8, 5)
    assert blended.dtype == torch.float32
    torch.testing.assert_close(blended, torch.ones(1, 1, 30, 30), atol=1e-6, rtol=0)


def test_odd_sizes_are_refused():
    with pytest.raises(ValueError, match="^40x64 pixels in tiles: expected multiples of 16$"):
        blend_tiles(affine, torch.zeros(1, 3, 64, 40), 8, 2, ratio=16)


@pytest.mark.parametrize("shape", [(3, 8, 8), (0, 3, 8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"^got shape .* to compute in tiles, expected \(B, C, H, W\), one picture"):
        blend_tiles(affine, torch.zeros(shape), 8, 2)


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
        blended = blend_what_fits(function, x, 100, 4, minimum=10)
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
    torch.testing.assert_close(blend_what_fits(function, x, 16, 4, 8, lambda text: None, batch=2), 2 * x)
    assert seen[0] == (2, 16) and set(seen[1:]) == {(1, 8)}


def test_giving_up_at_the_smallest_tiles():
    function, sides = doubling(8, OUT_OF_MEMORY["cuda"])
    told = []
    with pytest.raises(
        ValueError, match="^out of memory with tiles of 40 pixels, the smallest: free memory"
    ) as refusal:
        blend_what_fits(function, torch.zeros(1, 1, 32, 32 * 4), 25, 4, 10, told.append, scale=4)
    assert sides == [25, 12, 10]
    assert [text.split()[-1] for text in told] == ["48.", "40."]
    assert "\n" not in str(refusal.value)
    assert refusal.value.__context__ is None  # whose traceback would hold on to the memory


def test_other_errors_pass():
    function, _ = doubling(0, RuntimeError("expected 4 channels"))
    with pytest.raises(RuntimeError, match="^expected 4 channels$"):
        blend_what_fits(function, torch.zeros(1, 1, 8, 8), 8, 2, 1)


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
    tiled = blend_tiles(local_vae.decode, latents, 17, 14, scale=32, margin=7)
    assert whole.shape == tiled.shape == (1, 3, 32, 640)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        blend_tiles(local_vae.encode, whole, 17, 14, ratio=32, margin=7), local_vae.encode(whole), atol=1e-5, rtol=1e-4
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
    hard, soft = blend_tiles(vae.decode, latents, 10, 0, scale=32), decode_in_tiles(vae, latents, tile=512)
    assert steepest(soft - whole) < 0.1 * steepest(hard - whole)


def test_whole_picture_in_one_tile_where_memory_allows(local_vae, monkeypatch):
    monkeypatch.setattr(tiles, "free_memory", lambda device: 2**40)
    latents, images = torch.randn(3, 32, 2, 3), torch.randn(3, 3, 64, 32)
    assert torch.equal(decode_in_tiles(local_vae, latents), local_vae.decode(latents))
    assert torch.equal(encode_in_tiles(local_vae, images), local_vae.encode(images))


def test_pictures_of_a_batch_one_by_one_where_only_one_fits(local_vae, monkeypatch):
    latents, calls = torch.randn(3, 32, 2, 3), []
    monkeypatch.setattr(tiles, "free_memory", lambda device: 2 * 64 * 96 * DECODE_BYTES * 4)
    pictures = decode_in_tiles(local_vae, latents, on_tile=lambda *progress: calls.append(progress))
    assert calls == [(1, 2), (2, 2)]  # two, then one
    torch.testing.assert_close(pictures, local_vae.decode(latents))


@pytest.mark.parametrize(("free", "most", "count"), [(2**40, 2**23, 1), (0, 2**23, 3), (2**40, 16 * 32**2, 3)])
def test_memory_and_torch_limit_the_tile(free, most, count, local_vae, monkeypatch):
    monkeypatch.setattr(tiles, "free_memory", lambda device: free)
    monkeypatch.setattr(tiles, "MAX_PIXELS", most)
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
