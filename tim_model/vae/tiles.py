"""Computes a function of an area in overlapping tiles that are blended without visible seams.

Sides of tiles and overlaps are in cells, latent cells for a VAE.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from torch import Tensor

Progress = Callable[[int, int], None]  # called with the tiles done and the number of tiles


def plan_tiles(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """(start, stop) of the fewest tiles along an axis, evenly placed: all `tile` long, or one of the whole length.

    Neighbors share `overlap` cells at least.

    Raises:
        ValueError: no length, or several tiles whose overlap is negative or not less than the tile.
    """
    if 0 < length <= tile:
        return [(0, length)]
    if length < 1 or not 0 <= overlap < tile:
        raise ValueError(
            f"{length} cells in tiles of {tile} that share {overlap}: expected at least one cell, "
            "and tiles larger than what they share"
        )
    last = math.ceil((length - tile) / (tile - overlap))
    starts = [i * (length - tile) // last for i in range(last + 1)]
    return [(start, start + tile) for start in starts]


def feather(tiles: list[tuple[int, int]], margin: int = 0) -> list[Tensor]:
    """Weights (stop - start,) of each tile along an axis, which sum to 1 at every cell; float32, on the CPU.

    They are 0 within `margin` of a border that has a neighbor, and 1 where no neighbor is; between them a raised
    cosine runs over what the two share. So the blend of a function that sees no farther than `margin` is exact.

    Raises:
        ValueError: neighbors share less than two margins.
    """
    shared = [left[1] - right[0] for left, right in pairwise(tiles)]
    if margin < 0 or min(shared, default=2 * margin) < 2 * margin:
        raise ValueError(f"margin {margin}: expected 0 to {min(shared, default=0) // 2}, half of what neighbors share")
    weights = torch.zeros(len(tiles), tiles[-1][1], dtype=torch.float32)
    for i, (start, stop) in enumerate(tiles):
        window = weights[i, start:stop].fill_(1)
        if i > 0:
            window *= fade_in(stop - start, shared[i - 1], margin)
        if i + 1 < len(tiles):
            window *= fade_in(stop - start, shared[i], margin).flip(0)
    weights /= weights.sum(0)
    return [weights[i, start:stop] for i, (start, stop) in enumerate(tiles)]


def fade_in(length: int, shared: int, margin: int) -> Tensor:
    """(length,) from 0 to 1 over the first `shared` cells without their margins; its mirror image adds up to 1."""
    cells = torch.arange(length, dtype=torch.float32) + 0.5 - margin
    return (cells / (shared - 2 * margin)).clamp(0, 1).mul(math.pi / 2).sin() ** 2


@dataclass(frozen=True)
class Tiling:
    """The tiling of an area, in cells: tile sides, minimum overlap, and the margin of `feather`."""

    tile: int
    overlap: int
    margin: int = 0


def blend_tiles(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    tiling: Tiling,
    *,
    scale: int = 1,
    ratio: int = 1,
    batch: int = 1,
    on_tile: Progress | None = None,
) -> Tensor:
    """`function` of x, tile by tile and `batch` images at once: (B,C',h*scale,w*scale), float32, on the device of x.

    Only one result of `function` is in memory at a time.

    Args:
        function: maps (b,C,h*ratio,w*ratio) to (b,C',h*scale,w*scale), b up to `batch`, on any device.
        x: (B,C,h*ratio,w*ratio).
        tiling: for both axes.
        scale, ratio: of the result, and of x, for each cell and side: (r, 1) to decode and (1, r) to encode.
        on_tile: called after every tile.

    Raises:
        ValueError: x of another shape, or what `plan_tiles` and `feather` refuse.
    """
    if x.ndim != 4 or not len(x):
        raise ValueError(f"got shape {tuple(x.shape)} to compute in tiles, expected (B, C, H, W), one image or more")
    if x.shape[-2] % ratio or x.shape[-1] % ratio:
        raise ValueError(f"{x.shape[-1]}x{x.shape[-2]} pixels in tiles: expected multiples of {ratio}")
    plans = [plan_tiles(side // ratio, tiling.tile, tiling.overlap) for side in x.shape[-2:]]
    parts = [axis_parts(plan, scale, ratio, tiling.margin) for plan in plans]
    areas = list(product(range(0, len(x), batch), *parts))
    blended = None
    for done, (b, (in_y, out_y, weight_y), (in_x, out_x, weight_x)) in enumerate(areas, start=1):
        result = function(x[b : b + batch, :, in_y, in_x])
        if blended is None:
            height, width = (plan[-1][1] * scale for plan in plans)
            blended = x.new_zeros(len(x), result.shape[1], height, width, dtype=torch.float32)
        weight = torch.outer(weight_y, weight_x).to(x.device)
        blended[b : b + batch, :, out_y, out_x].addcmul_(result.to(blended), weight)
        del result  # before the next one comes
        if on_tile is not None:
            on_tile(done, len(areas))
    return blended


def axis_parts(plan: list[tuple[int, int]], scale: int, ratio: int, margin: int) -> list[tuple[slice, slice, Tensor]]:
    """The range that each tile of an axis reads, the range that it writes, and its weights."""
    weights = feather([(start * scale, stop * scale) for start, stop in plan], margin * scale)
    return [
        (slice(start * ratio, stop * ratio), slice(start * scale, stop * scale), weight)
        for (start, stop), weight in zip(plan, weights)
    ]
