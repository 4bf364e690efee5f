"""Empty latents: ours, and those of other nodes, which count 8 pixels a cell for every model."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.sample
import torch
from torch import Tensor

from ..tim_model.latents import latent_shape
from ..tim_model.sizes import nearest_multiple
from .latent_format import space_of, unit_of
from .notices import tell

if TYPE_CHECKING:
    from .model import TiMModel

STOCK_RATIO = 8  # pixels a cell of Empty Latent Image, of Empty SD3 Latent, and of nearly all that other packs make
STOCK_CHANNELS = 4  # the fewest of them
# Newer hosts resize empty latents by the ratio that their node states, before any noise is drawn.
HOST_RESIZES = "downscale_ratio_spacial" in inspect.signature(comfy.sample.fix_empty_latent_channels).parameters

logger = logging.getLogger(__name__)


def empty_latent(tim: TiMModel, width: int, height: int, batch: int) -> dict:
    """LATENT of zeros for pictures of width x height pixels; ValueError for sides that do not fit the model.

    The zeros are negative: every computation takes them for zeros, and they tell our latents from those of other nodes,
    also after a node has cut, turned, repeated or joined them. Older hosts hand nothing else to a run.
    """
    space = space_of(tim)
    shape = latent_shape(space, tim.params.patch_size, width, height, batch)
    samples = torch.full(shape, -0.0, device=comfy.model_management.intermediate_device())
    return {"samples": samples, "downscale_ratio_spacial": space.ratio}


def counts_stock_pixels(tim: TiMModel, latent: Tensor) -> bool:
    """Whether a run's latent (B,C,h,w) is an empty one of another node that nobody has resized for this model.

    The host has brought it to the model's channels by then: by repeating them, or as a view of the first of them. A
    whole latent of fewer channels than any stock node makes was made for such a model.
    """
    if HOST_RESIZES or space_of(tim).ratio == STOCK_RATIO or latent.ndim != 4:
        return False
    if latent.any() or latent.signbit().any():
        return False
    return latent.shape[1] >= STOCK_CHANNELS or latent.stride(0) > latent[0].numel()


def resize_stock_empty(tim: TiMModel, latent: Tensor, noise: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Latent and noise for the pixels that the node of an empty latent was asked for, as TiM Empty Latent has them.

    Raises:
        ValueError: noise that is neither that of the seed nor zero, so that nobody can draw it at another size.
    """
    width, height = (STOCK_RATIO * cells for cells in (latent.shape[3], latent.shape[2]))
    unit = unit_of(tim)
    nearest = nearest_multiple(width, unit), nearest_multiple(height, unit)
    shape = latent_shape(space_of(tim), tim.params.patch_size, *nearest, len(latent))
    resized = latent.new_full(shape, -0.0)
    if not noise.any():
        new_noise = noise.new_zeros(shape)
    elif torch.equal(noise, comfy.sample.prepare_noise(latent, seed)):
        new_noise = comfy.sample.prepare_noise(resized, seed)
    else:
        ratio = space_of(tim).ratio
        raise ValueError(
            f"the empty latent is meant for {width}x{height} pixels, 8 a cell, of which this TiM model makes "
            f"{latent.shape[3] * ratio}x{latent.shape[2] * ratio}, and its noise is no plain noise of the seed: use "
            f"TiM Empty Latent at {nearest[0]}x{nearest[1]}"
        )
    if nearest != (width, height):
        tell(
            f"the empty latent is meant for {width}x{height} pixels, this TiM model makes multiples of {unit}: drawing "
            f"{nearest[0]}x{nearest[1]}; TiM Empty Latent says which sizes fit"
        )
    else:
        logger.info(f"Empty latent of {width}x{height} pixels, 8 a cell, made anew with {ratio_text(tim)} a cell")
    return resized, new_noise


def ratio_text(tim: TiMModel) -> str:
    ratio = space_of(tim).ratio
    return "1 pixel" if ratio == 1 else f"{ratio} pixels"
