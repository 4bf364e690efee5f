"""TiM Transition Schedule. For TiM a sigma is the time t itself."""

from __future__ import annotations

from comfy_api.latest import io

from ..tim_model.sampling.schedule import SCHEDULES, make_times, parse_times
from ..tim_model.sampling.tuned import TUNED, read_schedules
from .aliases import search_aliases
from .host.model import tim_model_of
from .host.transition_sampler import schedule_sigmas

CUSTOM = "custom"
KIND_TOOLTIP = (
    "How the steps are spread: uniform (as published), shifted (more near the noise), cosine (short at both ends), "
    "quadratic (short near the image), logit_normal (short at both ends, as dense as training times)"
)
TUNED_TOOLTIP = f"{TUNED} (what python -m tim_model tune-schedule found for the model, from 1 to 0)"


def scheduled_times(kind: str, steps: int, start: float = 1.0, end: float = 0.0, model=None, **options) -> list[float]:
    """The times of `make_times`, or those that were tuned for the model.

    Raises:
        ValueError: as `make_times`; no model or none that was tuned, or tuned times with other ends than 1 and 0.
    """
    if kind != TUNED:
        return make_times(kind, steps, start, end, **options)
    if model is None:
        raise ValueError(f"schedule {TUNED}: connect the model that it was tuned for")
    if (start, end) != (1.0, 0.0):
        raise ValueError(f"schedule {TUNED} runs from 1 to 0, not from {start:g} to {end:g}: take another schedule")
    return read_schedules(tim_model_of(model).file).of(steps)


class TiMTransitionSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMTransitionSchedule",
            display_name="TiM Transition Schedule",
            category="TiM",
            **search_aliases("transition model", "any step", "scheduler", "sigmas"),
            description="The times that sampling moves through, from noise (1) to image (0), in any number of steps.",
            inputs=[
                io.Combo.Input(
                    "schedule", options=[*SCHEDULES, CUSTOM, TUNED], default="uniform",
                    tooltip=f"{KIND_TOOLTIP}, {TUNED_TOOLTIP}, or custom (the list below).",
                ),
                io.Int.Input("steps", default=4, min=1, max=10000, tooltip="Network steps. Unused by custom."),
                io.Float.Input(
                    "start", default=1.0, min=0.0, max=1.0, step=0.01, round=False,
                    tooltip="First time, the denoise strength: 1 starts from noise, less keeps more of the input "
                    "image. Unused by custom.",
                ),
                io.Float.Input(
                    "end", default=0.0, min=0.0, max=1.0, step=0.01, round=False,
                    tooltip="Last time: 0 ends at the image, more leaves noise for a following sampler. Unused by "
                    "custom.",
                ),
                io.Float.Input(
                    "shift", default=3.0, min=0.01, max=100.0, step=0.01, tooltip="Strength of shifted; 1 is uniform."
                ),
                io.String.Input(
                    "times", default="1, 0.6, 0.25, 0",
                    tooltip="Custom list: strictly decreasing numbers from 1 to 0, one more than there are steps.",
                ),
                io.Model.Input("model", optional=True, tooltip="TiM model, for tuned alone."),
            ],
            outputs=[io.Sigmas.Output(tooltip="For SamplerCustom, SamplerCustomAdvanced or TiM Sampler.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, schedule, steps, start, end, shift, times, model=None) -> io.NodeOutput:
        if schedule == CUSTOM:
            return io.NodeOutput(schedule_sigmas(parse_times(times)))
        options = {"shift": shift} if schedule == "shifted" else {}
        return io.NodeOutput(schedule_sigmas(scheduled_times(schedule, steps, start, end, model, **options)))
