"""TiM Empty Latent."""

from __future__ import annotations

from comfy_api.latest import io

from .aliases import search_aliases
from .host.model import tim_model_of
from .latents.empty_latents import empty_latent


class TiMEmptyLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMEmptyLatent",
            display_name="TiM Empty Latent",
            category="TiM",
            **search_aliases("transition model", "empty latent image"),
            description="An empty latent with the channels and the pixel ratio of the connected model.",
            inputs=[
                io.Model.Input("model", tooltip="TiM model that the latent is for."),
                io.Int.Input(
                    "width", default=0, min=0, max=16384, step=8,
                    tooltip="Pixels; a multiple of the model's ratio times its patch size (32 for the text model). 0: "
                    "the model's native width.",
                ),
                io.Int.Input(
                    "height", default=0, min=0, max=16384, step=8,
                    tooltip="Pixels; a multiple of the model's ratio times its patch size (32 for the text model). 0: "
                    "the model's native height.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="Images sampled together."),
            ],
            outputs=[io.Latent.Output(tooltip="Zeros, the start of text to image.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, width: int, height: int, batch_size: int) -> io.NodeOutput:
        tim = tim_model_of(model)
        return io.NodeOutput(empty_latent(tim.params, tim.space, *tim.size_or_native(width, height), batch_size))
