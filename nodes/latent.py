"""Nodes that make latents."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import io

from ..tim_model.latents import LatentSpace, latent_shape
from .model import TiMModel, tim_model_of


def space_of(tim: TiMModel) -> LatentSpace:
    """The latent space of a model in the host."""
    latent_format = tim.latent_format
    return LatentSpace(tim.params.in_channels, latent_format.spacial_downscale_ratio, latent_format.scale_factor)


def unit_of(tim: TiMModel) -> int:
    """Pixels of a token and side, which sides of pictures are multiples of."""
    return space_of(tim).ratio * tim.params.patch_size


def empty_latent(tim: TiMModel, width: int, height: int, batch: int) -> dict:
    """LATENT of zeros for pictures of width x height pixels; ValueError for sides that do not fit the model."""
    space = space_of(tim)
    shape = latent_shape(space, tim.params.patch_size, width, height, batch)
    samples = torch.zeros(shape, device=comfy.model_management.intermediate_device())
    return {"samples": samples, "downscale_ratio_spacial": space.ratio}


class TiMEmptyLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMEmptyLatent",
            display_name="TiM Empty Latent",
            category="TiM",
            description="An empty latent with the channels and the pixel ratio of the connected model.",
            inputs=[
                io.Model.Input("model", tooltip="TiM model that the latent is for."),
                io.Int.Input(
                    "width", default=1024, min=8, max=16384, step=8,
                    tooltip="Pixels; a multiple of the model's ratio times its patch size (32 for the text model).",
                ),
                io.Int.Input(
                    "height", default=1024, min=8, max=16384, step=8,
                    tooltip="Pixels; a multiple of the model's ratio times its patch size (32 for the text model).",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="Pictures sampled together."),
            ],
            outputs=[io.Latent.Output(tooltip="Zeros, the start of text to image.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, width: int, height: int, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(empty_latent(tim_model_of(model), width, height, batch_size))
