"""Nodes that make latents."""

from __future__ import annotations

from comfy_api.latest import io

from .empty_latents import empty_latent
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
        return io.NodeOutput(empty_latent(tim_model_of(model), width, height, batch_size))
