"""Schedules as SIGMAS. For TiM a sigma is the time t itself."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..tim_model.schedule import SCHEDULES, make_times, parse_times

CUSTOM = "custom"
KIND_TOOLTIP = (
    "How the steps are spread: uniform (as published), shifted (more near the noise), cosine (short at both ends), "
    "quadratic (short near the picture), logit_normal (short at both ends, as dense as training times)"
)


def schedule_sigmas(times: list[float]) -> torch.Tensor:
    """Times as SIGMAS, float32; ValueError where float32 cannot tell neighbors apart."""
    sigmas = torch.tensor(times, dtype=torch.float32)
    if not (sigmas[1:] < sigmas[:-1]).all():
        raise ValueError(f"{len(times) - 1} steps lie too close together for float32: use fewer")
    return sigmas


class TiMTransitionSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMTransitionSchedule",
            display_name="TiM Transition Schedule",
            category="TiM",
            description="The times that sampling moves through, from noise (1) to picture (0), in any number of steps.",
            inputs=[
                io.Combo.Input(
                    "schedule", options=[*SCHEDULES, CUSTOM], default="uniform",
                    tooltip=f"{KIND_TOOLTIP}, or custom (the list below).",
                ),
                io.Int.Input("steps", default=4, min=1, max=10000, tooltip="Network steps. Unused by custom."),
                io.Float.Input(
                    "start", default=1.0, min=0.0, max=1.0, step=0.01, round=False,
                    tooltip="First time, the denoise strength: 1 starts from noise, less keeps that much of the input "
                    "picture. Unused by custom.",
                ),
                io.Float.Input(
                    "end", default=0.0, min=0.0, max=1.0, step=0.01, round=False,
                    tooltip="Last time: 0 ends at the picture, more leaves noise for a following sampler. Unused by "
                    "custom.",
                ),
                io.Float.Input(
                    "shift", default=3.0, min=0.01, max=100.0, step=0.01, tooltip="Strength of shifted; 1 is uniform."
                ),
                io.String.Input(
                    "times", default="1, 0.6, 0.25, 0",
                    tooltip="Custom list: strictly decreasing numbers from 1 to 0, one more than there are steps.",
                ),
            ],
            outputs=[io.Sigmas.Output(tooltip="For SamplerCustom, SamplerCustomAdvanced or TiM Sampler.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, schedule, steps, start, end, shift, times) -> io.NodeOutput:
        if schedule == CUSTOM:
            return io.NodeOutput(schedule_sigmas(parse_times(times)))
        options = {"shift": shift} if schedule == "shifted" else {}
        return io.NodeOutput(schedule_sigmas(make_times(schedule, steps, start, end, **options)))
