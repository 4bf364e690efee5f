"""Large pictures through a VAE in tiles that overlap and fade into each other, so that no seams show.

Sides of tiles and overlaps are in cells here, latent cells for a VAE; only `decode_in_tiles` and `encode_in_tiles` take
pixels. A tile sees zeros beyond its borders where the whole picture goes on, and the attention of a DC-AE sees nothing
but the tile. So tiles should be large, and their borders count for nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from itertools import pairwise, product

import torch
from torch import Tensor

from .memory import DECODE_BYTES, ENCODE_BYTES, free_memory, is_out_of_memory
from .vae import VAE

OVERLAP = 256  # pixels that neighbors share at least: 8 cells of a DC-AE
MIN_TILE = 512  # pixels; smaller tiles would be nothing but overlap
SEAMLESS_TILE = 1024  # pixels; below, even areas of a DC-AE's pictures may show marks
# Torch upsamples to less than 2**31 elements, and the published VAEs have 256 channels at full size.
MAX_PIXELS = (2**31 - 1) // 256

Progress = Callable[[int, int], None]  # called with the tiles done and the number of tiles

logger = logging.getLogger(__name__)


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


def blend_tiles(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    tile: int,
    overlap: int,
    *,
    scale: int = 1,
    ratio: int = 1,
    margin: int = 0,
    batch: int = 1,
    on_tile: Progress | None = None,
) -> Tensor:
    """`function` of x, tile by tile and `batch` pictures at once: (B,C',h*scale,w*scale), float32, on the device of x.

    Of the results of `function` only one is alive at a time.

    Args:
        function: maps (b,C,h*ratio,w*ratio) to (b,C',h*scale,w*scale), b up to `batch`, on any device.
        x: (B,C,h*ratio,w*ratio).
        tile, overlap: see `plan_tiles`; in cells, for both axes.
        scale, ratio: of the result, and of x, for each cell and side: (r, 1) to decode and (1, r) to encode.
        margin: see `feather`; in cells.
        on_tile: called after every tile.

    Raises:
        ValueError: x of another shape, or what `plan_tiles` and `feather` refuse.
    """
    if x.ndim != 4 or not len(x):
        raise ValueError(f"got shape {tuple(x.shape)} to compute in tiles, expected (B, C, H, W), one picture or more")
    if x.shape[-2] % ratio or x.shape[-1] % ratio:
        raise ValueError(f"{x.shape[-1]}x{x.shape[-2]} pixels in tiles: expected multiples of {ratio}")
    plans = [plan_tiles(side // ratio, tile, overlap) for side in x.shape[-2:]]
    areas = list(product(range(0, len(x), batch), *(axis_parts(plan, scale, ratio, margin) for plan in plans)))
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
    """Of each tile of an axis: what it reads, what it writes, and the weights of that."""
    weights = feather([(start * scale, stop * scale) for start, stop in plan], margin * scale)
    return [
        (slice(start * ratio, stop * ratio), slice(start * scale, stop * scale), weight)
        for (start, stop), weight in zip(plan, weights)
    ]


def choose_tile(free_bytes: int, height: int, width: int, cell_bytes: int, minimum: int = 1) -> int:
    """The largest tile side, in cells, that an estimate lets into memory.

    An axis of the picture that is shorter than the tile makes it that short, and leaves room for the other.

    Args:
        height, width: of the picture, in cells.
        cell_bytes: of computing one cell, such as DECODE_BYTES * itemsize * ratio**2.
        minimum: the side to try where even less seems to be free, since estimates are high.
    """
    cells, short, long = free_bytes // cell_bytes, min(height, width), max(height, width)
    side = math.isqrt(cells) if cells < short**2 else cells // short
    return min(max(side, minimum), long)


def trim_tile(tile: int, sides: Sequence[int], overlap: int, least: int) -> int:
    """The smallest tile, in cells, that makes no more tiles of any axis than `tile` does: less to compute twice.

    Args:
        sides: of the picture, in cells.
        least: below which a tile is not trimmed.
    """
    needed = [min(least, tile)]
    for side in sides:
        count = len(plan_tiles(side, tile, overlap))
        needed.append(math.ceil((side + (count - 1) * overlap) / count))
    return max(needed)


def blend_what_fits(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    tile: int,
    overlap: int,
    minimum: int,
    warn: Callable[[str], None] = logger.warning,
    **options,
) -> Tensor:
    """`blend_tiles`, once more picture by picture with tiles of half the side whenever memory runs out.

    Args:
        minimum: the smallest side to try, in cells.
        warn: told in one sentence when tiles get smaller.
        options: of `blend_tiles`.

    Raises:
        ValueError: out of memory at the minimum, or what `blend_tiles` refuses.
    """
    pixels = max(options.get("scale", 1), options.get("ratio", 1))
    tile = min(tile, max(x.shape[-2:]) // options.get("ratio", 1))
    while True:
        try:
            return blend_tiles(function, x, tile, overlap, **options)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # out here nothing holds the tensors of the try anymore
        if tile <= minimum:
            raise ValueError(
                f"out of memory with tiles of {tile * pixels} pixels, the smallest: free memory, or take a smaller size"
            )
        smaller = max(tile // 2, minimum)
        warn(f"Out of memory with tiles of {tile * pixels} pixels, going on with {smaller * pixels}.")
        tile, options["batch"] = smaller, 1


def decode_in_tiles(
    vae: VAE, latents: Tensor, tile: int | None = None, overlap: int = OVERLAP, on_tile: Progress | None = None
) -> Tensor:
    """`vae.decode` in tiles: images (B,3,H,W), float32, on the device of the latents, about [-1, 1].

    What fits into memory is decoded whole, the same to the last bit.

    Args:
        latents: (B,channels,h,w), scaled.
        tile: side in pixels; by default as few tiles as memory allows, of 512 at least and up to 8.4 million pixels.
            Below 1024, even areas of a DC-AE's pictures may show marks.
        overlap: pixels that neighbors share at least. A quarter of it at either border counts for nothing, the
            half between fades.
        on_tile: called with the tiles done and their number; again from 1 when tiles get smaller.

    Raises:
        ValueError: latents that do not fit, an overlap as large as the tile, or out of memory with the smallest tiles.
    """
    cell_bytes = DECODE_BYTES * vae.dtype.itemsize * vae.ratio**2
    options = {"scale": vae.ratio, "on_tile": on_tile}
    return in_vae_tiles(vae.decode, latents, vae.ratio, tile, overlap, free_memory(vae.device), cell_bytes, **options)


def encode_in_tiles(
    vae: VAE, images: Tensor, tile: int | None = None, overlap: int = OVERLAP, on_tile: Progress | None = None
) -> Tensor:
    """`vae.encode` in tiles: scaled latents (B,channels,h,w), float32, on the device of the images.

    Args:
        images: (B,3,H,W) in [-1, 1], sides multiples of the VAE's ratio.
        tile, overlap, on_tile: as of `decode_in_tiles`.

    Raises:
        ValueError: as of `decode_in_tiles`.
    """
    cell_bytes = ENCODE_BYTES * vae.dtype.itemsize * vae.ratio**2
    options = {"ratio": vae.ratio, "on_tile": on_tile}
    return in_vae_tiles(vae.encode, images, vae.ratio, tile, overlap, free_memory(vae.device), cell_bytes, **options)


def in_vae_tiles(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    vae_ratio: int,
    tile: int | None,
    overlap: int,
    free_bytes: int,
    cell_bytes: int,
    **options,
) -> Tensor:
    """`blend_what_fits` for any VAE: the one place that knows how large its tiles should be.

    Args:
        function: decodes or encodes; of pictures and latents (b,C,h,w).
        x: latents, or pictures whose sides are multiples of vae_ratio.
        vae_ratio: pixels of a cell and side.
        tile, overlap: in pixels, as of `decode_in_tiles`.
        free_bytes: that tiles may need where `tile` is None.
        cell_bytes: that each cell of a tile needs.
        options: of `blend_tiles`, among them scale (to decode) or ratio (to encode).
    """
    overlap = math.ceil(overlap / vae_ratio)
    minimum = max(MIN_TILE // vae_ratio, 2 * overlap)
    if tile is None:
        height, width = (side // options.get("ratio", 1) for side in x.shape[-2:])
        usable = min(free_bytes, MAX_PIXELS // vae_ratio**2 * cell_bytes)
        tile = choose_tile(usable, height, width, cell_bytes, minimum)
        tile = trim_tile(tile, (height, width), overlap, SEAMLESS_TILE // vae_ratio)
        options["batch"] = max(1, usable // max(1, height * width * cell_bytes))
    else:
        tile //= vae_ratio
    return blend_what_fits(function, x, tile, overlap, minimum, margin=overlap // 4, **options)
