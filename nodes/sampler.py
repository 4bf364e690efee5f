"""TiM Transition Sampler, and TiM Sampler: guider, schedule and transition sampler in one node."""

from __future__ import annotations

from comfy_api.latest import io

from ..tim_model import SCHEDULES
from ..tim_model.sampling.tuned import TUNED
from .aliases import search_aliases
from .guider import guidance_inputs
from .host.adaptive_sampler import build_adaptive_sampler
from .host.guider import build_guider
from .host.model import tim_model_of
from .host.transition_sampler import build_sampler, sample_latent, schedule_sigmas
from .schedule import KIND_TOOLTIP, TUNED_TOOLTIP, scheduled_times

STOCHASTICITY_TOOLTIP = (
    "Share of the noise that is renewed on the way: 0 is deterministic, the class presets use 0.2. Under a noise mask "
    "all of it is renewed."
)


RESTART_TOOLTIP = (
    "Share by which each step goes past its end; new noise of the seed leads back, for each image by itself. 0 is the "
    "transition alone, 1 goes to the image each time. Not together with stochasticity, and unused under a noise mask "
    "that steps fit."
)


def restart_input() -> io.Float.Input:
    return io.Float.Input("restart", default=0.0, min=0.0, max=1.0, step=0.05, optional=True, tooltip=RESTART_TOOLTIP)


class TiMTransitionSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMTransitionSampler",
            display_name="TiM Transition Sampler",
            category="TiM",
            **search_aliases("transition model", "any step"),
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
                    tooltip="Under a noise mask, take velocities and new noise in every step, so that the new part "
                    "fits the part that is kept. Off: the steps that it takes without a mask.",
                ),
                restart_input(),
            ],
            outputs=[io.Sampler.Output(tooltip="For SamplerCustom and SamplerCustomAdvanced.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, stochasticity: float, velocity: bool, fit_mask: bool = True, restart: float = 0.0
    ) -> io.NodeOutput:
        return io.NodeOutput(build_sampler(stochasticity, velocity, fit_mask, restart))


class TiMAdaptiveSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMAdaptiveSampler",
            display_name="TiM Adaptive Sampler",
            category="TiM",
            **search_aliases("transition model", "any step", "adaptive steps", "tolerance"),
            description="As many transitions as each image needs, up to the steps of the schedule, for SamplerCustom "
            "nodes.",
            inputs=[
                io.Float.Input(
                    "tolerance", default=0.15, min=0.001, max=10.0, step=0.01, round=False,
                    tooltip="How far the image by one jump and that by two may be apart, relative to its size: smaller "
                    "takes more network calls. The schedule's steps are the most calls; its times between are unused.",
                )
            ],
            outputs=[io.Sampler.Output(tooltip="For SamplerCustom and SamplerCustomAdvanced.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, tolerance: float) -> io.NodeOutput:
        return io.NodeOutput(build_adaptive_sampler(tolerance))


class TiMSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMSampler",
            display_name="TiM Sampler",
            category="TiM",
            **search_aliases("transition model", "any step", "ksampler"),
            description="Samples a TiM model in any number of steps: guider, schedule and transition sampler in one.",
            inputs=[
                io.Model.Input("model", tooltip="TiM model."),
                io.Conditioning.Input("positive", tooltip="Prompt or class."),
                io.Conditioning.Input("negative", tooltip="Negative prompt; unused where guidance is off."),
                io.Latent.Input("latent_image", tooltip="Empty latent, or an encoded image (denoise below 1)."),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="Seed of the noise: the same seed gives the same image.",
                ),
                io.Int.Input(
                    "steps", default=4, min=1, max=10000,
                    tooltip="Network steps: 1 works, more are better. Unused where sigmas are connected.",
                ),
                io.Combo.Input(
                    "schedule", options=[*SCHEDULES, TUNED], default="uniform",
                    tooltip=f"{KIND_TOOLTIP}, {TUNED_TOOLTIP}. Unused where sigmas are connected.",
                ),
                *guidance_inputs(),
                io.Float.Input(
                    "stochasticity", default=0.0, min=0.0, max=1.0, step=0.01, tooltip=STOCHASTICITY_TOOLTIP
                ),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="1 starts from noise, less keeps more of the input latent, 0 returns it. Unused where "
                    "sigmas are connected.",
                ),
                io.Sigmas.Input("sigmas", optional=True, tooltip="Own schedule, in place of steps, schedule, denoise."),
                restart_input(),
            ],
            outputs=[io.Latent.Output(tooltip="The sampled latent.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, negative, latent_image, seed, steps, schedule, cfg, guidance_low, guidance_high,
        stochasticity, denoise, sigmas=None, restart=0.0,
    ) -> io.NodeOutput:  # fmt: skip
        if sigmas is None and denoise == 0:
            return io.NodeOutput(latent_image)
        if sigmas is None:
            sigmas = schedule_sigmas(scheduled_times(schedule, steps, denoise, model=model))
        tim_model_of(model)
        guider = build_guider(model, positive, negative, cfg, guidance_low, guidance_high)
        sampler = build_sampler(stochasticity, restart=restart)
        return io.NodeOutput(sample_latent(guider, sampler, sigmas, latent_image, seed))
