"""TiM Native Resolution: image sizes from an aspect ratio and an area, or from an image."""

from __future__ import annotations

from comfy_api.latest import io, ui
from torch import Tensor

from ..tim_model.sampling.sizes import (
    ASPECTS,
    MAX_MEGAPIXELS,
    MIN_MEGAPIXELS,
    choose_size,
    describe_size,
    native_warning,
    parse_aspect,
    size_of,
    size_warning,
)
from .aliases import search_aliases
from .host.model import tim_model_of
from .latents.empty_latents import empty_latent

CUSTOM, IMAGE, IMAGE_SIZE = "custom", "image", "image size"


def pick_size(aspect: str, custom_aspect: str, megapixels: float, image: Tensor | None, unit: int) -> tuple[int, int]:
    """(width, height) in pixels, multiples of unit, for the node's `aspect`.

    Args:
        image: IMAGE (B,H,W,C), for the choices that need one.

    Raises:
        ValueError: no image where one is needed, an unreadable aspect, or a size that `sizes` refuses.
    """
    if aspect in (IMAGE, IMAGE_SIZE):
        if image is None:
            raise ValueError(f'aspect "{aspect}" without an image: connect one, or choose another aspect')
        height, width = image.shape[1:3]
        if aspect == IMAGE_SIZE:
            return size_of(width, height, unit)
        return choose_size(width / height, megapixels, unit)
    return choose_size(parse_aspect(custom_aspect) if aspect == CUSTOM else ASPECTS[aspect], megapixels, unit)


class TiMNativeResolution(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMNativeResolution",
            display_name="TiM Native Resolution",
            category="TiM",
            **search_aliases("transition model", "aspect ratio", "image size"),
            description="Width, height and empty latent for an aspect and a number of megapixels.",
            is_output_node=True,  # so that hosts show its text also where the run takes its result from their cache
            inputs=[
                io.Model.Input("model", tooltip="TiM model that the size is for; sides become multiples of its cells."),
                io.Combo.Input(
                    "aspect", options=[*ASPECTS, CUSTOM, IMAGE, IMAGE_SIZE], default="1:1",
                    tooltip="Width to height. custom: the ratio below; image: that of the connected image, at the "
                    "megapixels below; image size: its width and height, megapixels are unused.",
                ),
                io.String.Input(
                    "custom_aspect", default="16:9",
                    tooltip='For custom: width:height such as "16:9", or one number such as "1.78".',
                ),
                io.Float.Input(
                    "megapixels", default=1.0, min=MIN_MEGAPIXELS, max=MAX_MEGAPIXELS, step=0.01, round=False,
                    tooltip="Area; 1 is 1024x1024 pixels, 4 is 2048x2048, 16 is 4096x4096. Time and memory grow "
                    "faster than it. Unused by image size.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="Images sampled together."),
                io.Image.Input("image", optional=True, tooltip="For image and image size; else unused."),
            ],
            outputs=[
                io.Int.Output(display_name="width", tooltip="Pixels."),
                io.Int.Output(display_name="height", tooltip="Pixels."),
                io.Latent.Output(display_name="latent", tooltip="Zeros of that size, the start of text to image."),
                io.String.Output(display_name="info", tooltip="What the node shows: size, area, tokens, warnings."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, aspect, custom_aspect, megapixels, batch_size, image=None) -> io.NodeOutput:
        tim = tim_model_of(model)
        unit = tim.unit
        width, height = pick_size(aspect, custom_aspect, megapixels, image, unit)
        warning = size_warning(width, height, unit)
        if tim.size_is_largest and not warning:  # else the published sizes count
            warning = native_warning(width, height, tim.size, trained=True)
        info = "\n".join(filter(None, (describe_size(width, height, unit), warning)))
        latent = empty_latent(tim.params, tim.space, width, height, batch_size)
        return io.NodeOutput(width, height, latent, info, ui=ui.PreviewText(info))
