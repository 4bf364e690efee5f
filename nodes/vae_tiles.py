"""Large pictures through any VAE of the host, in the wide feathered tiles of `tim_model.tiles`."""

from __future__ import annotations

import copy

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io
from torch import Tensor

from ..tim_model.tiles import OVERLAP, Progress, in_vae_tiles
from .model import tim_model_of
from .vae import check_picture

TILE_TOOLTIP = (
    "Side of the tiles in pixels: 0 takes as few as free memory allows, one of the whole picture if it fits. Below "
    "1024, even areas of a DC-AE's pictures may show marks."
)
OVERLAP_TOOLTIP = "Pixels that neighboring tiles share, to fade into each other. Less than a tile."


def check_vae(vae, model) -> None:
    """ValueError, before any time is spent on sampling, for a VAE that cannot decode the model's latents."""
    channels = tim_model_of(model).params.in_channels
    if vae.latent_channels != channels:
        raise ValueError(
            f"vae decodes {vae.latent_channels} channels, this TiM model draws {channels}: connect the VAE it was "
            "trained with"
        )


def check_interruption(done: int, total: int) -> None:
    """What follows the tiles where no progress is shown: stops at the user's wish."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def show_progress() -> Progress:
    """Follows the tiles with the node's progress bar."""
    bar = comfy.utils.ProgressBar(1)

    def report(done: int, total: int) -> None:
        check_interruption(done, total)
        bar.update_absolute(done, total)

    return report


def decode_in_tiles(
    vae, latents: Tensor, tile: int | None = None, overlap: int = OVERLAP, on_tile: Progress = check_interruption
) -> Tensor:
    """IMAGE (B,H,W,3) of a LATENT's samples (B,C,h,w), float32; what fits is `vae.decode` to the last bit.

    Args:
        tile, overlap: in pixels; None takes the largest tile that memory allows, by the VAE's own estimate.

    Raises:
        ValueError: a VAE that does not make pictures, latents of another VAE, an overlap as large as the tile, or out
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
    """Raise ValueError for tiles that the VAE cannot compute, or that would be nothing but overlap."""
    if vae.latent_dim != 2:
        raise ValueError("this VAE is not one of pictures but of video or sound: take the stock VAE nodes for it")
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
    """The same VAE, but where memory runs out it raises, and does not go on in the host's small tiles."""

    def out_of_memory(*args, **kwargs):
        raise torch.cuda.OutOfMemoryError("out of memory")

    vae = copy.copy(vae)
    vae.decode_tiled_ = vae.encode_tiled_ = out_of_memory
    return vae


class TiledCodec:
    """The host's VAE as `tim_model.progressive.Codec`: pictures (B,3,H,W) in [-1, 1], and latents of the host."""

    def __init__(self, vae):
        self.vae = vae

    def decode(self, latents: Tensor) -> Tensor:
        return decode_in_tiles(self.vae, latents).movedim(-1, 1) * 2 - 1

    def encode(self, images: Tensor) -> Tensor:
        return encode_in_tiles(self.vae, (images.movedim(1, -1) + 1) / 2)


def tile_inputs() -> list:
    """The widgets of tiles, the same on both nodes."""
    return [
        io.Int.Input("tile_size", default=0, min=0, max=8192, step=64, tooltip=TILE_TOOLTIP),
        io.Int.Input("overlap", default=OVERLAP, min=0, max=4096, step=32, tooltip=OVERLAP_TOOLTIP),
    ]


class TiMVAEDecodeHighRes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMVAEDecodeHighRes",
            display_name="TiM VAE Decode (High-Res)",
            category="TiM",
            description="Decodes large pictures whole where they fit into memory, else in large tiles without seams.",
            inputs=[
                io.Latent.Input("samples", tooltip="Latent to decode."),
                io.Vae.Input(
                    "vae", tooltip="The VAE of the model that sampled it: a DC-AE, or any other for pictures."
                ),
                *tile_inputs(),
            ],
            outputs=[io.Image.Output(tooltip="The decoded pictures.")],
        )

    @classmethod
    def execute(cls, samples, vae, tile_size: int, overlap: int) -> io.NodeOutput:
        return io.NodeOutput(decode_in_tiles(vae, samples["samples"], tile_size or None, overlap, show_progress()))


class TiMVAEEncodeHighRes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMVAEEncodeHighRes",
            display_name="TiM VAE Encode (High-Res)",
            category="TiM",
            description="Encodes large pictures whole where they fit into memory, else in large tiles without seams.",
            inputs=[
                io.Image.Input("pixels", tooltip="Pictures to encode; sides are cropped to whole cells of the VAE."),
                io.Vae.Input("vae", tooltip="The VAE of the model to sample with: a DC-AE, or any other for pictures."),
                *tile_inputs(),
            ],
            outputs=[io.Latent.Output(tooltip="The encoded pictures.")],
        )

    @classmethod
    def execute(cls, pixels, vae, tile_size: int, overlap: int) -> io.NodeOutput:
        latents = encode_in_tiles(vae, pixels, tile_size or None, overlap, show_progress())
        return io.NodeOutput({"samples": latents})
