"""Pictures beyond the size that a model is made for: in one pass, or in growing stages."""

from __future__ import annotations

import math

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..tim_model import SCHEDULES, make_times
from ..tim_model.progressive import Stage, enlarge, plan_stages, size_shift, stage_seed
from ..tim_model.rope import ROPE_SCALINGS, RopeScaling
from ..tim_model.schedule import shifted
from ..tim_model.sizes import MAX_MEGAPIXELS, MAX_SIDE, MEGAPIXEL, size_warning
from .empty_latents import empty_latent
from .guider import SeriesGuider, build_guider, guidance_inputs
from .latent_format import space_of, unit_of
from .model import TiMModel, tim_model_of
from .notices import tell
from .sampler import STOCHASTICITY_TOOLTIP, build_sampler, run
from .schedule import KIND_TOOLTIP, schedule_sigmas
from .vae_tiles import TiledCodec, check_vae, decode_in_tiles

NATIVE, PROGRESSIVE = "native", "progressive"
NO_VAE = "connect a VAE to TiM High-Res Sampler to have pictures, or decode its LATENT"


def native_stage(width: int, height: int, schedule: str, steps: int, base_pixels: int, time_shift: bool) -> Stage:
    """One pass at the size itself, whose times the shift moves to the noise by the number of tokens."""
    shift = size_shift(width, height, base_pixels) if time_shift else 1.0
    return Stage(width, height, tuple(shifted(t, shift) for t in make_times(schedule, steps)))


def with_rope(model, kind: str, base_pixels: int):
    """The MODEL with rotations scaled beyond the size of `base_pixels`; the model itself stays as it is."""
    scaled = model.clone()
    trained = max(1, round(math.sqrt(base_pixels) / unit_of(tim_model_of(model))))
    scaled.add_object_patch("diffusion_model.rope_scaling", RopeScaling(kind, trained))
    return scaled


def sample_stages(
    guider: SeriesGuider, sampler, stages: list[Stage], tim: TiMModel, batch: int, seed: int, vae=None
) -> Tensor:
    """Samples (B,C,h,w) of the last stage, as `tim_model.sample_progressively` in the host.

    Args:
        vae: enlarges in pixels from stage to stage; without it the latents themselves are enlarged.
    """
    codec = None if vae is None else TiledCodec(vae)
    samples = None
    for i, stage in enumerate(stages):
        latent = empty_latent(tim, stage.width, stage.height, batch)
        if samples is not None:
            latent["samples"] = enlarge(samples, latent["samples"].shape, codec, space_of(tim))
        sigmas = schedule_sigmas(list(stage.times))
        samples = run(guider, sampler, sigmas, latent, stage_seed(seed, i))["samples"]
    return samples


class TiMHighResSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMHighResSampler",
            display_name="TiM High-Res Sampler",
            category="TiM",
            description="Draws pictures up to 8192 pixels a side: in one pass at that size (native), or small first, "
            "then enlarged and redrawn in a few steps (progressive).",
            inputs=[
                io.Model.Input("model", tooltip="TiM model."),
                io.Conditioning.Input("positive", tooltip="What to draw."),
                io.Conditioning.Input("negative", tooltip="What to lean away from; unused where guidance is off."),
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
                io.Image.Output(tooltip="The picture, decoded in tiles where memory is short; needs a VAE."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, negative, width, height, batch_size, seed, steps, strategy, schedule, time_shift, rope,
        base_megapixels, growth, renoise, large_steps, cfg, guidance_low, guidance_high, stochasticity, vae=None,
    ) -> io.NodeOutput:  # fmt: skip
        tim, base_pixels = tim_model_of(model), round(base_megapixels * MEGAPIXEL)
        if strategy == NATIVE:
            stages = [native_stage(width, height, schedule, steps, base_pixels, time_shift)]
        else:
            options = {"growth": growth, "renoise": renoise, "time_shift": time_shift}
            stages = plan_stages(
                width, height, unit_of(tim), base_pixels, steps=steps, large_steps=large_steps, **options
            )
        if vae is not None:
            check_vae(vae, model)
        if warning := size_warning(width, height, unit_of(tim)):
            tell(warning)
        scaled = model if rope == "none" else with_rope(model, rope, base_pixels)
        guider = build_guider(scaled, positive, negative, cfg, guidance_low, guidance_high)
        guider.expects_large = True
        series = SeriesGuider(guider, sum(len(stage.times) - 1 for stage in stages))
        samples = sample_stages(series, build_sampler(stochasticity), stages, tim, batch_size, seed, vae)
        image = ExecutionBlocker(NO_VAE) if vae is None else decode_in_tiles(vae, samples)
        return io.NodeOutput({"samples": samples}, image)


def size_inputs() -> list:
    side = {"default": 2048, "min": 8, "max": MAX_SIDE, "step": 8}
    tooltip = "Pixels; a multiple of the model's ratio times its patch size (32 for the text model)."
    return [
        io.Int.Input("width", tooltip=tooltip, **side),
        io.Int.Input("height", tooltip=tooltip, **side),
        io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="Pictures sampled together."),
    ]


def step_inputs() -> list:
    """What both strategies use, and the schedule of native."""
    return [
        io.Int.Input(
            "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
            tooltip="Seed of the noise: the same seed gives the same picture.",
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
            tooltip="Spend more steps near the noise the more tokens a picture has beyond the base size, as Stable "
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
            "base_megapixels", default=1.0, min=0.001, max=MAX_MEGAPIXELS, step=0.001, round=False,
            tooltip="Area that the model is made for, 1 for the published text model: progressive starts there, "
            "time_shift and rope count from there.",
        ),
        io.Float.Input(
            "growth", default=2.0, min=1.1, max=64.0, step=0.1, round=0.01,
            tooltip="progressive: how many times longer a side may get from stage to stage; less makes more stages.",
        ),
        io.Float.Input(
            "renoise", default=0.1, min=0.01, max=1.0, step=0.01, round=False,
            tooltip="progressive: time that larger stages start at. More draws more anew, less keeps the small "
            "picture; 1 keeps nothing of it.",
        ),
        io.Int.Input(
            "large_steps", default=1, min=1, max=10000, tooltip="progressive: network steps of each larger stage."
        ),
    ]  # fmt: skip
