"""Guidance inside an interval of times, as a GUIDER."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io
from torch import Tensor

from ..tim_model.sampling import is_guided
from .model import tim_model_of

CFG_TOOLTIP = "Guidance scale: how far to lean away from the negative. 1 turns guidance off and halves the time."
LOW_TOOLTIP = "Steps that start above this time are guided; times run from 1 (noise) to 0 (picture)."
HIGH_TOOLTIP = (
    "Steps that start below this time are guided. At 1 the first step, which starts at exactly 1, is not guided, as in "
    "the published results; above 1 it is, as the stock samplers do."
)


class IntervalGuider(comfy.samplers.CFGGuider):
    """CFG for steps that start strictly inside `interval`; no null pass is made for the others."""

    interval = (0.0, 1.0)
    skips_negative_at_cfg_1 = True
    expects_large = False  # sizes far beyond the model's own are on purpose

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        cfg = self.cfg if is_guided(float(timestep[0]), self.cfg, self.interval) else 1.0
        return comfy.samplers.sampling_function(
            self.inner_model, x, timestep, self.conds["negative"], self.conds["positive"], cfg,
            model_options=model_options or {}, seed=seed,
        )  # fmt: skip


def build_guider(model, positive, negative, cfg: float, low: float, high: float) -> IntervalGuider:
    """A guider for a TiM model; ValueError for any other model or an empty interval."""
    tim_model_of(model)
    if low >= high:
        raise ValueError(
            f"guidance_low={low:g} and guidance_high={high:g}: expected low below high; cfg 1 turns it off"
        )
    guider = IntervalGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    guider.interval = (low, high)
    return guider


class SeriesGuider:
    """A guider for several runs in a row, which tells their progress as that of one run of all `steps`."""

    def __init__(self, guider: IntervalGuider, steps: int):
        self.guider, self.steps, self.done = guider, steps, 0
        self.model_patcher = guider.model_patcher  # all that the stock node wants beside `sample`

    def sample(self, noise: Tensor, latent: Tensor, sampler, sigmas: Tensor, callback, **options) -> Tensor:
        def report(step: int, denoised: Tensor, x: Tensor, steps: int) -> None:
            callback(self.done + step, denoised, x, self.steps)

        samples = self.guider.sample(noise, latent, sampler, sigmas, callback=report, **options)
        self.done += len(sigmas) - 1
        return samples


def guidance_inputs() -> list:
    """The widgets of guidance, the same on every node that has them."""
    return [
        io.Float.Input("cfg", default=2.5, min=1.0, max=100.0, step=0.1, round=0.01, tooltip=CFG_TOOLTIP),
        io.Float.Input("guidance_low", default=0.0, min=-1.0, max=1.0, step=0.01, tooltip=LOW_TOOLTIP),
        io.Float.Input("guidance_high", default=1.0, min=0.0, max=2.0, step=0.01, tooltip=HIGH_TOOLTIP),
    ]


class TiMGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMGuider",
            display_name="TiM Guider",
            category="TiM",
            description="Guidance inside an interval of times, for SamplerCustomAdvanced.",
            inputs=[
                io.Model.Input("model", tooltip="TiM model."),
                io.Conditioning.Input("positive", tooltip="What to draw."),
                io.Conditioning.Input("negative", tooltip="What to lean away from; unused where guidance is off."),
                *guidance_inputs(),
            ],
            outputs=[io.Guider.Output(tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model, positive, negative, cfg, guidance_low, guidance_high) -> io.NodeOutput:
        return io.NodeOutput(build_guider(model, positive, negative, cfg, guidance_low, guidance_high))
