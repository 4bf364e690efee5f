"""TiM VAE Decode (High-Res) and TiM VAE Encode (High-Res)."""

from __future__ import annotations

import comfy.utils
from comfy_api.latest import io

from ..tim_model.vae.tiled_vae import OVERLAP
from ..tim_model.vae.tiles import Progress
from .aliases import search_aliases
from .host.tiled_vae import check_interruption, decode_in_tiles, encode_in_tiles

TILE_TOOLTIP = (
    "Side of the tiles in pixels: 0 takes as few as free memory allows, a single one if the whole image fits. Below "
    "1024, even areas of a DC-AE's images may show marks."
)
OVERLAP_TOOLTIP = "Pixels that neighboring tiles share, to fade into each other. Less than a tile."


def show_progress() -> Progress:
    """Follows the tiles with the node's progress bar."""
    bar = comfy.utils.ProgressBar(1)

    def report(done: int, total: int) -> None:
        check_interruption(done, total)
        bar.update_absolute(done, total)

    return report


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
            **search_aliases("dc-ae", "dcae", "tiled vae decode"),
            description="Decodes large images whole where they fit into memory, else in large tiles without seams.",
            inputs=[
                io.Latent.Input("samples", tooltip="Latent to decode."),
                io.Vae.Input("vae", tooltip="The VAE of the model that sampled it: a DC-AE, or any other image VAE."),
                *tile_inputs(),
            ],
            outputs=[io.Image.Output(tooltip="The decoded images.")],
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
            **search_aliases("dc-ae", "dcae", "tiled vae encode"),
            description="Encodes large images whole where they fit into memory, else in large tiles without seams.",
            inputs=[
                io.Image.Input("pixels", tooltip="Images to encode; sides are cropped to whole cells of the VAE."),
                io.Vae.Input("vae", tooltip="The VAE of the model to sample with: a DC-AE, or any other image VAE."),
                *tile_inputs(),
            ],
            outputs=[io.Latent.Output(tooltip="The encoded images.")],
        )

    @classmethod
    def execute(cls, pixels, vae, tile_size: int, overlap: int) -> io.NodeOutput:
        latents = encode_in_tiles(vae, pixels, tile_size or None, overlap, show_progress())
        return io.NodeOutput({"samples": latents})
