"""The transition sampler, alone and together with guider and schedule in one node."""

from __future__ import annotations

import comfy.model_patcher
import comfy.samplers
import torch
from comfy_api.latest import io
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced
from torch import Tensor
from tqdm.auto import tqdm

from ..tim_model import SCHEDULES, Step, make_times, sample
from ..tim_model.noise import noise_stream
from .guider import build_guider, guidance_inputs
from .schedule import KIND_TOOLTIP, schedule_sigmas

STOCHASTICITY_TOOLTIP = (
    "Share of the noise that is renewed on the way: 0 is deterministic, the class presets use 0.2. Under a noise mask "
    "all of it is renewed."
)


def sample_transitions(
    model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None, stochasticity=0.0, velocity=False,
    fit_mask=True,
) -> Tensor:  # fmt: skip
    """`tim_model.sample` in the form of the host's samplers: x is the state at sigmas[0], a sigma is a time t.

    The host's model returns x - t F (guided); the transition's target r reaches the network as `tim_r`. In a run with
    a noise mask, steps restart with the targets of `masked_target`, unless `velocity` or not `fit_mask` is asked for.
    """
    if len(sigmas) < 2:
        return x
    extra_args = extra_args or {}
    run_options = extra_args.get("model_options", {}).get("transformer_options", {})
    masked = bool(run_options.get("tim_masked")) and fit_mask and not velocity

    def field(x_t: Tensor, t: Tensor, r: Tensor, context: None) -> Tensor:
        options = comfy.model_patcher.create_model_options_clone(extra_args.get("model_options", {}))
        options.setdefault("transformer_options", {}).update(tim_r=float(r[0]), tim_masked=masked)
        denoised = model(x_t, t, **{**extra_args, "model_options": options})
        return (x_t - denoised) / t[:, None, None, None]

    with tqdm(total=len(sigmas) - 1, disable=disable) as bar:

        def report(step: Step) -> None:
            bar.update()
            if callback is not None:
                denoised = step.x_t - step.t * step.F
                callback({"x": step.x_t, "i": step.i, "sigma": step.t, "sigma_hat": step.t, "denoised": denoised})

        return sample(
            field, x, torch.as_tensor(sigmas).tolist(), None, stochasticity=stochasticity, velocity=velocity,
            noise_fn=noise_stream(extra_args.get("seed") or 0), callback=report, restart=masked,
        )  # fmt: skip


def build_sampler(stochasticity: float = 0.0, velocity: bool = False, fit_mask: bool = True) -> comfy.samplers.KSAMPLER:
    options = {"stochasticity": stochasticity, "velocity": velocity, "fit_mask": fit_mask}
    return comfy.samplers.KSAMPLER(sample_transitions, options)


class TiMTransitionSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMTransitionSampler",
            display_name="TiM Transition Sampler",
            category="TiM",
            description="Exact transitions from each time of the schedule to the next, for SamplerCustom nodes.",
            inputs=[
                io.Float.Input(
                    "stochasticity", default=0.0, min=0.0, max=1.0, step=0.01, tooltip=STOCHASTICITY_TOOLTIP
                ),
                io.Boolean.Input(
                    "velocity", default=False,
                    tooltip="Ask the network for the velocity at t instead of the transition to the next time: an "
                    "ordinary flow-matching sampler, for comparison.",
                ),
                io.Boolean.Input(
                    "fit_mask", default=True, optional=True,
                    tooltip="Under a noise mask, take velocities and new noise in every step, so that what is drawn "
                    "fits the part that is kept. Off: the steps that it takes without a mask.",
                ),
            ],
            outputs=[io.Sampler.Output(tooltip="For SamplerCustom and SamplerCustomAdvanced.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, stochasticity: float, velocity: bool, fit_mask: bool = True) -> io.NodeOutput:
        return io.NodeOutput(build_sampler(stochasticity, velocity, fit_mask))


class TiMSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMSampler",
            display_name="TiM Sampler",
            category="TiM",
            description="Samples a TiM model in any number of steps: guider, schedule and transition sampler in one.",
            inputs=[
                io.Model.Input("model", tooltip="TiM model."),
                io.Conditioning.Input("positive", tooltip="What to draw."),
                io.Conditioning.Input("negative", tooltip="What to lean away from; unused where guidance is off."),
                io.Latent.Input("latent_image", tooltip="Empty latent, or a picture to change (denoise below 1)."),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="Seed of the noise: the same seed gives the same picture.",
                ),
                io.Int.Input(
                    "steps", default=4, min=1, max=10000,
                    tooltip="Network steps: 1 works, more are better. Unused where sigmas are connected.",
                ),
                io.Combo.Input(
                    "schedule", options=list(SCHEDULES), default="uniform",
                    tooltip=f"{KIND_TOOLTIP}. Unused where sigmas are connected.",
                ),
                *guidance_inputs(),
                io.Float.Input(
                    "stochasticity", default=0.0, min=0.0, max=1.0, step=0.01, tooltip=STOCHASTICITY_TOOLTIP
                ),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="1 draws from noise, less keeps that much of the input latent, 0 returns it. Unused where "
                    "sigmas are connected.",
                ),
                io.Sigmas.Input("sigmas", optional=True, tooltip="Own schedule, in place of steps, schedule, denoise."),
            ],
            outputs=[io.Latent.Output(tooltip="The sampled latent.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, negative, latent_image, seed, steps, schedule, cfg, guidance_low, guidance_high,
        stochasticity, denoise, sigmas=None,
    ) -> io.NodeOutput:  # fmt: skip
        if sigmas is None and denoise == 0:
            return io.NodeOutput(latent_image)
        if sigmas is None:
            sigmas = schedule_sigmas(make_times(schedule, steps, start=denoise))
        guider = build_guider(model, positive, negative, cfg, guidance_low, guidance_high)
        return io.NodeOutput(run(guider, build_sampler(stochasticity), sigmas, latent_image, seed))


def run(guider, sampler, sigmas: Tensor, latent: dict, seed: int) -> dict:
    """Sample a LATENT as the stock node does."""
    return SamplerCustomAdvanced.execute(Noise_RandomNoise(seed), guider, sampler, sigmas, latent)[0]
