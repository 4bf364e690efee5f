"""Images beyond a model's native size: in one pass, or in growing stages."""

from __future__ import annotations

import math

from torch import Tensor

from ...tim_model import make_times
from ...tim_model.network.rope import RopeScaling
from ...tim_model.sampling.progressive import Stage, enlarge, size_shift, stage_seed
from ...tim_model.sampling.schedule import shifted
from ..latents.empty_latents import empty_latent
from .guider import SeriesGuider
from .model import TiMModel
from .tiled_vae import TiledVAE
from .transition_sampler import sample_latent, schedule_sigmas


def native_stage(width: int, height: int, schedule: str, steps: int, base_pixels: int, time_shift: bool) -> Stage:
    """One pass at the full size; the shift moves times toward the noise by the number of tokens."""
    shift = size_shift(width, height, base_pixels) if time_shift else 1.0
    return Stage(width, height, tuple(shifted(t, shift) for t in make_times(schedule, steps)))


def with_rope(model, kind: str, base_pixels: int):
    """A clone of a TiM MODEL with rotations scaled beyond the size of `base_pixels`; the model is not changed."""
    scaled = model.clone()
    trained = max(1, round(math.sqrt(base_pixels) / model.model.unit))
    scaled.add_object_patch("diffusion_model.rope_scaling", RopeScaling(kind, trained))
    return scaled


def sample_stages(
    guider: SeriesGuider, sampler, stages: list[Stage], tim: TiMModel, batch: int, seed: int, vae=None
) -> Tensor:
    """Samples (B,C,h,w) of the last stage, as `tim_model.sample_progressively` in the host.

    Args:
        vae: enlarges in pixels from stage to stage; without it the latents themselves are enlarged.
    """
    codec = None if vae is None else TiledVAE(vae)
    samples = None
    for i, stage in enumerate(stages):
        latent = empty_latent(tim.params, tim.space, stage.width, stage.height, batch)
        if samples is not None:
            latent["samples"] = enlarge(samples, latent["samples"].shape, codec, tim.space)
        sigmas = schedule_sigmas(list(stage.times))
        samples = sample_latent(guider, sampler, sigmas, latent, stage_seed(seed, i))["samples"]
    return samples
