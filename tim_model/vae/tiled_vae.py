"""Encodes and decodes large images: whole if they fit into memory, else in the fewest and largest tiles that fit.

Beyond its borders a tile sees zeros in place of the rest of the image, and the attention of a DC-AE sees only the tile.
Therefore tiles should be large, and results at their borders get weight 0.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ..network.memory import DECODE_BYTES, ENCODE_BYTES, free_memory, is_out_of_memory
from .autoencoder import VAE
from .tiles import Progress, Tiling, blend_tiles, plan_tiles

OVERLAP = 256  # minimum overlap in pixels: 8 cells of a DC-AE
MIN_TILE = 512  # pixels; smaller tiles would be only overlap
SEAMLESS_TILE = 1024  # pixels; below, even areas of a DC-AE's images may show marks
# Torch upsamples to less than 2**31 elements, and the published VAEs have 256 channels at full size.
MAX_PIXELS = (2**31 - 1) // 256

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TiledVAE:
    """A VAE that encodes and decodes in tiles if memory is short; the `Codec` of sampling/progressive.py.

    Without a VAE it is the codec of pixel space, in which latents are images.
    """

    vae: VAE | None

    def encode(self, images: Tensor) -> Tensor:
        """Scaled latents of images (B,3,H,W) in [-1, 1]."""
        return images if self.vae is None else encode_in_tiles(self.vae, images)

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B,3,H,W), about [-1, 1], of scaled latents."""
        return latents if self.vae is None else decode_in_tiles(self.vae, latents)


def choose_tile(free_bytes: int, height: int, width: int, cell_bytes: int, minimum: int = 1) -> int:
    """The largest tile side, in cells, that fits into memory by an estimate.

    If an axis of the image is shorter than the tile, the tile is cut to it, which leaves memory for the other axis.

    Args:
        height, width: of the image, in cells.
        cell_bytes: of computing one cell, such as DECODE_BYTES * itemsize * ratio**2.
        minimum: the side to try even if the estimate does not fit, since estimates are high.
    """
    cells, short, long = free_bytes // cell_bytes, min(height, width), max(height, width)
    side = math.isqrt(cells) if cells < short**2 else cells // short
    return min(max(side, minimum), long)


def trim_tile(tile: int, sides: Sequence[int], overlap: int, least: int) -> int:
    """The smallest tile, in cells, with as few tiles on each axis as `tile`: less overlap to compute twice.

    Args:
        sides: of the image, in cells.
        least: the smallest result.
    """
    needed = [min(least, tile)]
    for side in sides:
        count = len(plan_tiles(side, tile, overlap))
        needed.append(math.ceil((side + (count - 1) * overlap) / count))
    return max(needed)


def blend_what_fits(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    tiling: Tiling,
    minimum: int,
    warn: Callable[[str], None] = logger.warning,
    **options,
) -> Tensor:
    """`blend_tiles`; whenever memory runs out, it starts again image by image with tiles of half the side.

    Args:
        minimum: the smallest side to try, in cells.
        warn: called with one sentence when tiles get smaller.
        options: of `blend_tiles`.

    Raises:
        ValueError: out of memory at the minimum, or what `blend_tiles` refuses.
    """
    pixels = max(options.get("scale", 1), options.get("ratio", 1))
    tile = min(tiling.tile, max(x.shape[-2:]) // options.get("ratio", 1))
    while True:
        try:
            return blend_tiles(function, x, replace(tiling, tile=tile), **options)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # here the tensors of the failed attempt are released
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

    Images that fit into memory are decoded whole, bit for bit as by `vae.decode`.

    Args:
        latents: (B,channels,h,w), scaled.
        tile: side in pixels; by default as few tiles as memory allows, of 512 at least and up to 8.4 million pixels.
            Below 1024, even areas of a DC-AE's images may show marks.
        overlap: minimum overlap in pixels. A quarter of it at each border gets weight 0, the half between fades.
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
    """`blend_what_fits` for any VAE, with the choice of the tile size.

    Args:
        function: decodes or encodes; of images and latents (b,C,h,w).
        x: latents, or images whose sides are multiples of vae_ratio.
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
    return blend_what_fits(function, x, Tiling(tile, overlap, overlap // 4), minimum, **options)
