"""Nodes that make latents."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import io

from ..tim_model.latents import LatentSpace, latent_shape
from .model import tim_model_of


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
        tim = tim_model_of(model)
        ratio = tim.latent_format.spacial_downscale_ratio
        space = LatentSpace(tim.params.in_channels, ratio, tim.latent_format.scale_factor)
        shape = latent_shape(space, tim.params.patch_size, width, height, batch_size)
        samples = torch.zeros(shape, device=comfy.model_management.intermediate_device())
        return io.NodeOutput({"samples": samples, "downscale_ratio_spacial": ratio})
