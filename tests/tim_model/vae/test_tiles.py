"""Blends of tiles: exact where they can be, without seams where not."""

from __future__ import annotations

import weakref
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from devtools.random_stack import randomize
from tim_model.vae.tiles import Tiling, blend_tiles, feather, plan_tiles

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
    torch.testing.assert_close(blend_tiles(affine, x, Tiling(8, 3)), affine(x))


def test_upscaling_and_downscaling_are_exact():
    x = torch.randn(1, 3, 7, 19)
    large = F.interpolate(x, scale_factor=4)
    torch.testing.assert_close(
        blend_tiles(lambda t: F.interpolate(t, scale_factor=4), x, Tiling(6, 3, 1), scale=4), large
    )
    torch.testing.assert_close(blend_tiles(lambda t: F.avg_pool2d(t, 4), large, Tiling(6, 3, 1), ratio=4), x)


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
    torch.testing.assert_close(blend_tiles(net, x, Tiling(12, 6, 3)), net(x))
    torch.testing.assert_close(blend_tiles(net, x, Tiling(12, 8, 3)), net(x))
    assert (blend_tiles(net, x, Tiling(12, 6, 1)) - net(x)).abs().max() > 1e-3


def steepest(picture: torch.Tensor) -> float:
    """The largest step from one column to the next; not at the borders, where the picture itself bends."""
    return (picture[..., 1:] - picture[..., :-1]).abs()[..., 6:-6].max().item()


def test_no_seams_where_tiles_are_not_exact():
    """Real convolutions that see 3 cells far, a margin of 2: nowhere is the blend steeper than the picture."""
    net, x = conv_net(radius=3), smooth(24, 96)
    whole, soft = net(x), blend_tiles(net, x, Tiling(32, 12, 2))
    assert not torch.allclose(soft, whole, rtol=1e-4)
    assert steepest(soft) < 1.02 * steepest(whole)
    assert steepest(soft - whole) < 0.1 * steepest(whole)
    assert steepest(blend_tiles(net, x, Tiling(32, 0))) > 5 * steepest(whole)  # what a seam looks like


def test_one_tile_is_alive_at_a_time():
    alive, peak, calls = set(), [], []

    def function(x: torch.Tensor) -> torch.Tensor:
        peak.append(len(alive) + 1)
        result = x * 2
        alive.add(id(result))
        weakref.finalize(result, alive.discard, id(result))
        return result

    x = torch.randn(2, 1, 20, 12)
    blended = blend_tiles(function, x, Tiling(8, 2), on_tile=lambda *progress: calls.append(progress))
    torch.testing.assert_close(blended, 2 * x)
    assert peak == [1] * 12  # 2 pictures of 3x2 tiles
    assert calls == [(done, 12) for done in range(1, 13)]


def test_half_precision_is_added_up_in_float32():
    blended = blend_tiles(lambda x: (x + 1).bfloat16(), torch.zeros(1, 1, 30, 30), Tiling(8, 5))
    assert blended.dtype == torch.float32
    torch.testing.assert_close(blended, torch.ones(1, 1, 30, 30), atol=1e-6, rtol=0)


def test_odd_sizes_are_refused():
    with pytest.raises(ValueError, match="^40x64 pixels in tiles: expected multiples of 16$"):
        blend_tiles(affine, torch.zeros(1, 3, 64, 40), Tiling(8, 2), ratio=16)


@pytest.mark.parametrize("shape", [(3, 8, 8), (0, 3, 8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"^got shape .* to compute in tiles, expected \(B, C, H, W\), one image"):
        blend_tiles(affine, torch.zeros(shape), Tiling(8, 2))
