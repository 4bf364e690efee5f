"""TiM High-Res Sampler: images beyond the native size, in one pass or in growing stages."""

from __future__ import annotations

import math

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..tim_model import SCHEDULES
from ..tim_model.network.rope import ROPE_SCALINGS
from ..tim_model.sampling.progressive import plan_stages
from ..tim_model.sampling.sizes import MAX_MEGAPIXELS, MAX_SIDE, MEGAPIXEL, size_warning
from .aliases import search_aliases
from .graph.notices import warn
from .guider import guidance_inputs
from .host.guider import SeriesGuider, build_guider
from .host.model import tim_model_of
from .host.stages import native_stage, sample_stages, with_rope
from .host.tiled_vae import check_vae, decode_in_tiles
from .host.transition_sampler import build_sampler
from .sampler import STOCHASTICITY_TOOLTIP
from .schedule import KIND_TOOLTIP

NATIVE, PROGRESSIVE = "native", "progressive"
NO_VAE = "connect a VAE to TiM High-Res Sampler to get images, or decode its LATENT"


class TiMHighResSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMHighResSampler",
            display_name="TiM High-Res Sampler",
            category="TiM",
            **search_aliases("transition model", "any step", "hires fix", "upscale"),
            description="Generates images up to 8192 pixels a side: in one pass at that size (native), or small first, "
            "then enlarged and refined in a few steps (progressive).",
            inputs=[
                io.Model.Input("model", tooltip="TiM model."),
                io.Conditioning.Input("positive", tooltip="Prompt or class."),
                io.Conditioning.Input("negative", tooltip="Negative prompt; unused where guidance is off."),
                *size_inputs(),
                *step_inputs(),
                *large_inputs(),
                *guidance_inputs(),
                io.Float.Input(
                    "stochasticity", default=0.0, min=0.0, max=1.0, step=0.01, tooltip=STOCHASTICITY_TOOLTIP
                ),
                io.Vae.Input(
                    "vae", optional=True,
                    tooltip="The model's VAE, for the IMAGE output and to enlarge in pixels; without it progressive "
                    "enlarges the latents.",
                ),
            ],
            outputs=[
                io.Latent.Output(tooltip="The sampled latent."),
                io.Image.Output(tooltip="The image, decoded in tiles where memory is short; needs a VAE."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, negative, width, height, batch_size, seed, steps, strategy, schedule, time_shift, rope,
        base_megapixels, growth, renoise, large_steps, cfg, guidance_low, guidance_high, stochasticity, vae=None,
    ) -> io.NodeOutput:  # fmt: skip
        tim = tim_model_of(model)
        width, height = tim.size_or_native(width, height)
        base_pixels = round(base_megapixels * MEGAPIXEL) or math.prod(tim.size)
        if strategy == NATIVE:
            stages = [native_stage(width, height, schedule, steps, base_pixels, time_shift)]
        else:
            options = {"growth": growth, "renoise": renoise, "time_shift": time_shift}
            stages = plan_stages(
                (width, height), tim.unit, base_pixels, steps=steps, large_steps=large_steps, **options
            )
        if vae is not None:
            check_vae(vae, tim)
        if warning := size_warning(width, height, tim.unit):
            warn(warning)
        scaled = model if rope == "none" else with_rope(model, rope, base_pixels)
        guider = build_guider(scaled, positive, negative, cfg, guidance_low, guidance_high)
        guider.expects_large = True
        series = SeriesGuider(guider, sum(len(stage.times) - 1 for stage in stages))
        samples = sample_stages(series, build_sampler(stochasticity), stages, tim, batch_size, seed, vae)
        image = ExecutionBlocker(NO_VAE) if vae is None else decode_in_tiles(vae, samples)
        return io.NodeOutput({"samples": samples}, image)


def size_inputs() -> list:
    side = {"default": 2048, "min": 0, "max": MAX_SIDE, "step": 8}
    tooltip = (
        "Pixels; a multiple of the model's ratio times its patch size (32 for the text model). 0: the native size."
    )
    return [
        io.Int.Input("width", tooltip=tooltip, **side),
        io.Int.Input("height", tooltip=tooltip, **side),
        io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="Images sampled together."),
    ]


def step_inputs() -> list:
    """What both strategies use, and the schedule of native."""
    return [
        io.Int.Input(
            "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
            tooltip="Seed of the noise: the same seed gives the same image.",
        ),
        io.Int.Input(
            "steps", default=8, min=1, max=10000,
            tooltip="Network steps: all of native, or those at the base size of progressive.",
        ),
        io.Combo.Input(
            "strategy", options=[NATIVE, PROGRESSIVE], default=PROGRESSIVE,
            tooltip="native: one pass at the size itself, for sizes that the model was trained for. progressive: the "
            "base size first, then enlarged and redrawn, for larger ones; most steps are small and fast.",
        ),
        io.Combo.Input(
            "schedule", options=list(SCHEDULES), default="uniform",
            tooltip=f"{KIND_TOOLTIP}. Unused by progressive, which is uniform.",
        ),
        io.Boolean.Input(
            "time_shift", default=False,
            tooltip="Spend more steps near the noise the more tokens an image has beyond the base size, as Stable "
            "Diffusion 3 does.",
        ),
        io.Combo.Input(
            "rope", options=list(ROPE_SCALINGS), default="none",
            tooltip="Scaling of positions beyond the base size: none as trained, linear, ntk or yarn against repeated "
            "shapes at sizes beyond training.",
        ),
    ]  # fmt: skip


def large_inputs() -> list:
    """The base size, and what progressive does beyond it."""
    return [
        io.Float.Input(
            "base_megapixels", default=1.0, min=0.0, max=MAX_MEGAPIXELS, step=0.001, round=False,
            tooltip="Native area, 1 for the published text model; 0 takes it from the model. progressive starts there, "
            "time_shift and rope count from there.",
        ),
        io.Float.Input(
            "growth", default=2.0, min=1.1, max=64.0, step=0.1, round=0.01,
            tooltip="progressive: largest growth factor of a side from stage to stage; less makes more stages.",
        ),
        io.Float.Input(
            "renoise", default=0.1, min=0.01, max=1.0, step=0.01, round=False,
            tooltip="progressive: time that larger stages start at. Higher changes more, lower keeps more of "
            "the smaller image; 1 keeps nothing of it.",
        ),
        io.Int.Input(
            "large_steps", default=1, min=1, max=10000, tooltip="progressive: network steps of each larger stage."
        ),
    ]  # fmt: skip
