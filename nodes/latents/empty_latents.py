"""Empty latents: our own, and those of other nodes, which assume 8 pixels per cell for every model."""

from __future__ import annotations

import inspect
import logging

import comfy.model_management
import comfy.sample
import comfy.sampler_helpers
import torch
from torch import Tensor

from ...tim_model.network.latent_space import LatentSpace, latent_shape
from ...tim_model.network.memory import check_room
from ...tim_model.network.params import TiMParams
from ...tim_model.sampling.sizes import nearest_multiple
from ..graph.nodes_before import nodes_before
from ..graph.notices import warn

STOCK_RATIO = 8  # pixels a cell of Empty Latent Image, of Empty SD3 Latent, and of nearly all that other packs make
# Pixels a cell by the channels of what nodes make: of pixels, SD, SD3, Hunyuan Image and Flux 2.
RATIOS = {3: 1, 4: STOCK_RATIO, 16: STOCK_RATIO, 64: 32, 128: 16}
COMMON_RATIOS = (STOCK_RATIO, 16, 32, 1)
# The same of one frame of a video: of Hunyuan, Wan and Cosmos, Wan 2.2 and LTX.
FRAME_RATIOS = {16: STOCK_RATIO, 48: 16, 128: 32}
# Newer hosts resize empty latents by the ratio that their node states, before any noise is drawn.
HOST_RESIZES = "downscale_ratio_spacial" in inspect.signature(comfy.sample.fix_empty_latent_channels).parameters
LONGEST_BATCH = 128  # images that Latent From Batch reaches

logger = logging.getLogger(__name__)


def empty_latent(params: TiMParams, space: LatentSpace, width: int, height: int, batch: int) -> dict:
    """LATENT of zeros for images of width x height pixels; ValueError for sides that do not fit the model.

    The zeros are negative: every computation treats them as zeros, and they mark these latents as ours, also after a
    node has cut, rotated, repeated or joined them. Older hosts pass nothing else on to a run.
    """
    shape = latent_shape(space, params.patch_size, width, height, batch)
    check_room(params, batch, width, height, space.ratio, comfy.model_management.get_torch_device())
    samples = torch.full(shape, -0.0, device=comfy.model_management.intermediate_device())
    return {"samples": samples, "downscale_ratio_spacial": space.ratio}


def one_frame(latent: Tensor) -> Tensor:
    """A video latent (B,C,1,h,w) with one frame as an image latent (B,C,h,w); any other unchanged."""
    return latent[:, :, 0] if latent.ndim == 5 and latent.shape[2] == 1 else latent


def ratio_of_other_node(own: int, latent: Tensor) -> int | None:
    """Pixels per cell that another node assumed for an empty latent (B,C,h,w) or (B,C,1,h,w), if not the model's own.

    `own` is the model's ratio.

    None for our own latents, for latents that the host has resized, and if the ratio is unknown.
    """
    picture = one_frame(latent)
    if picture.ndim != 4 or latent.any() or latent.signbit().any():
        return None
    ratio = ratio_in_graph(picture, own)
    if ratio is None:
        ratio = ratio_by_channels(picture, own, FRAME_RATIOS if latent.ndim == 5 else RATIOS)
    return None if ratio == own else ratio


def ratio_in_graph(latent: Tensor, own: int) -> int | None:
    """The ratio between the size of a latent and the width and height of the node that made it."""
    nodes = nodes_before()
    sizes = [nodes[0]["inputs"].get(side) for side in ("width", "height")] if len(nodes) == 1 else [None]
    if not all(type(size) is int for size in sizes):
        return None
    height, width = latent.shape[-2:]
    return next((r for r in (own, *COMMON_RATIOS) if sizes[0] // r == width and sizes[1] // r == height), None)


def ratio_by_channels(latent: Tensor, own: int, ratios: dict[int, int]) -> int | None:
    """The ratio by the channels that an empty latent had before the host adapted them to the model.

    The host keeps the first channels of a larger number and repeats a smaller number; both leave a view whose base has
    the original number. Only whole repeats of 4 or 16 channels leave none: older hosts have not resized those.
    """
    if latent.stride(1) != latent[0, 0].numel():
        return None
    held, channels = latent.stride(0) // latent.stride(1), latent.shape[1]
    if held != channels:
        return ratios.get(held, RATIOS[3] if held % 3 == 0 else None)
    if HOST_RESIZES or channels == 3:
        return None
    height, width = latent.shape[-2:]
    warn(
        f"the empty latent is taken for {width * STOCK_RATIO}x{height * STOCK_RATIO} pixels, {STOCK_RATIO} a cell as "
        f"most nodes make it, not for {width * own}x{height * own}, {own} a cell: TiM Empty Latent leaves no doubt"
    )
    return STOCK_RATIO


def resize_empty(
    space: LatentSpace, patch: int, latent: Tensor, noise: Tensor, seed: int, ratio: int
) -> tuple[Tensor, Tensor]:
    """Latent and noise for the pixel size that was set on the node of an empty latent, as from TiM Empty Latent.

    Args:
        ratio: pixels per cell that the node assumed.

    Raises:
        ValueError: noise that is neither that of the seed nor zero, so that it cannot be drawn at another size.
    """
    width, height = ratio * latent.shape[3], ratio * latent.shape[2]
    unit = space.ratio * patch
    nearest = nearest_multiple(width, unit), nearest_multiple(height, unit)
    resized = latent.new_full(latent_shape(space, patch, *nearest, len(latent)), -0.0)
    new_noise = noise_like(resized, noise, seed)
    if new_noise is None:
        raise ValueError(
            f"the empty latent is meant for {width}x{height} pixels, {ratio} a cell, of which this TiM model makes "
            f"{latent.shape[3] * space.ratio}x{latent.shape[2] * space.ratio}, and its noise is no plain noise of the "
            f"seed: use TiM Empty Latent at {nearest[0]}x{nearest[1]}"
        )
    if nearest == (width, height):
        logger.info(
            f"The empty latent counts {ratio} pixel{'s' * (ratio > 1)} a cell: drawing its {width}x{height}, "
            f"{space.ratio} a cell"
        )
    else:
        warn(
            f"the empty latent is meant for {width}x{height} pixels, this TiM model makes multiples of {unit}: drawing "
            f"{nearest[0]}x{nearest[1]}; TiM Empty Latent says which sizes fit"
        )
    return resized, new_noise


def resize_mask(mask: Tensor | None, old: torch.Size, new: torch.Size) -> Tensor | None:
    """The noise mask of a run whose latent was of shape `old`; hosts that shape masks later have any other shape."""
    if mask is None or mask.shape != old:
        return mask
    return comfy.sampler_helpers.prepare_mask(one_frame(mask)[:, :1], new, mask.device)


def noise_like(latent: Tensor, noise: Tensor, seed: int) -> Tensor | None:
    """The host's noise for `latent`, if `noise` is the host's noise for another size; None for other noise."""
    if not noise.any():
        return torch.zeros_like(latent, device=noise.device)
    if torch.equal(noise, comfy.sample.prepare_noise(noise, seed)):
        return comfy.sample.prepare_noise(latent, seed)
    places = places_in_batch(noise, seed)
    return None if None in places else comfy.sample.prepare_noise(latent, seed, places)


def places_in_batch(noise: Tensor, seed: int) -> list[int | None]:
    """The index in the seed's batch for each noise, for latents from Latent From Batch."""
    generator = torch.Generator().manual_seed(seed)
    places: list[int | None] = [None] * len(noise)
    for i in range(LONGEST_BATCH):
        draw = torch.randn(noise.shape[1:], generator=generator).to(noise)
        places = [i if place is None and torch.equal(row, draw) else place for place, row in zip(places, noise)]
        if None not in places:
            break
    return places
