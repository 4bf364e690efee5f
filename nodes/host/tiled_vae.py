"""Large images through any VAE of the host, in the wide feathered tiles of `tim_model.vae.tiles`."""

from __future__ import annotations

import copy

import comfy.model_base
import comfy.model_management
import torch
from torch import Tensor

from ...tim_model.vae.tiled_vae import OVERLAP, in_vae_tiles
from ...tim_model.vae.tiles import Progress
from .vae import check_picture


def check_vae(vae, model: comfy.model_base.BaseModel) -> None:
    """ValueError, before any time is spent on sampling, for a VAE that cannot decode the model's latents."""
    channels = model.latent_format.latent_channels
    if vae.latent_channels != channels:
        raise ValueError(
            f"vae decodes {vae.latent_channels} channels, this model draws {channels}: connect the VAE that it was "
            "trained with"
        )


def check_interruption(done: int, total: int) -> None:
    """The callback of tiles without a progress bar: stops when the user interrupts."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def decode_in_tiles(
    vae, latents: Tensor, tile: int | None = None, overlap: int = OVERLAP, on_tile: Progress = check_interruption
) -> Tensor:
    """IMAGE (B,H,W,3) of a LATENT's samples (B,C,h,w), float32; what fits is `vae.decode` to the last bit.

    Args:
        tile, overlap: in pixels; None takes the largest tile that memory allows, by the VAE's own estimate.

    Raises:
        ValueError: a VAE that does not make images, latents of another VAE, an overlap as large as the tile, or out
            of memory with the smallest tiles.
    """
    check_tiles(vae, tile, overlap)
    if latents.ndim != 4 or latents.shape[1] != vae.latent_channels:
        raise ValueError(
            f"latent has shape {tuple(latents.shape)}, this VAE decodes (B, {vae.latent_channels}, h, w): connect the "
            "VAE of the model that sampled it"
        )
    ratio, one_cell = vae.spacial_compression_decode(), (1, latents.shape[1], 1, 1)
    memory = [vae.memory_used_decode(shape, vae.vae_dtype) for shape in (latents.shape, one_cell)]
    strict = without_fallback(vae)
    images = in_vae_tiles(
        lambda x: strict.decode(x).movedim(-1, 1), latents, ratio, tile, overlap, make_room(vae, memory[0]),
        int(memory[1]), scale=ratio, on_tile=on_tile,
    )  # fmt: skip
    return images.movedim(1, -1)


def encode_in_tiles(
    vae, images: Tensor, tile: int | None = None, overlap: int = OVERLAP, on_tile: Progress = check_interruption
) -> Tensor:
    """Samples (B,C,h,w) of a LATENT, of an IMAGE (B,H,W,C) whose sides are cropped to whole cells, as by the host.

    Args:
        tile, overlap: as of `decode_in_tiles`.

    Raises:
        ValueError: as of `decode_in_tiles`, or an image smaller than a cell.
    """
    check_tiles(vae, tile, overlap)
    ratio = vae.spacial_compression_encode()
    check_picture(images, ratio)
    pixels = vae.vae_encode_crop_pixels(images[..., :3]).movedim(-1, 1)
    memory = [vae.memory_used_encode(shape, vae.vae_dtype) for shape in (pixels.shape, (1, 3, ratio, ratio))]
    strict = without_fallback(vae)
    return in_vae_tiles(
        lambda x: strict.encode(x.movedim(1, -1)), pixels, ratio, tile, overlap, make_room(vae, memory[0]),
        int(memory[1]), ratio=ratio, on_tile=on_tile,
    )  # fmt: skip


def check_tiles(vae, tile: int | None, overlap: int) -> None:
    """Raise ValueError for tiles that the VAE cannot compute, or that are not larger than their overlap."""
    if vae.latent_dim != 2:
        raise ValueError("this VAE is for video or sound, not for images: take the stock VAE nodes for it")
    if tile is not None and tile <= overlap:
        raise ValueError(f"tile_size {tile} with overlap {overlap}: expected a tile larger than the overlap, or 0")


def make_room(vae, wanted: float) -> int:
    """Bytes that are free once the VAE is on its device, where the host has unloaded other models for `wanted`."""
    management = comfy.model_management
    wanted = min(wanted, 0.8 * management.get_total_memory(vae.device))  # more would unload the VAE itself
    management.load_models_gpu([vae.patcher], memory_required=wanted, force_full_load=vae.disable_offload)
    # newer hosts count what dynamic loading can give back
    return int(getattr(vae.patcher, "get_free_memory", management.get_free_memory)(vae.device))


def without_fallback(vae):
    """The same VAE, which raises an error if memory runs out, in place of the host's small tiles."""

    def out_of_memory(*args, **kwargs):
        raise torch.cuda.OutOfMemoryError("out of memory")

    vae = copy.copy(vae)
    vae.decode_tiled_ = vae.encode_tiled_ = out_of_memory
    return vae


class TiledVAE:
    """The host's VAE with the methods of `tim_model.vae.tiled_vae.TiledVAE`, and latents as the host has them."""

    def __init__(self, vae):
        self.vae = vae

    def decode(self, latents: Tensor) -> Tensor:
        return decode_in_tiles(self.vae, latents).movedim(-1, 1) * 2 - 1

    def encode(self, images: Tensor) -> Tensor:
        return encode_in_tiles(self.vae, (images.movedim(1, -1) + 1) / 2)
