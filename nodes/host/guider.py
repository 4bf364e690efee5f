"""Guidance inside an interval of times, as the host's guiders have it, for one run or several in a row."""

from __future__ import annotations

import comfy.samplers
from torch import Tensor

from ...tim_model.sampling.sampler import is_guided


class IntervalGuider(comfy.samplers.CFGGuider):
    """CFG for steps that start strictly inside `interval`; the others need no pass without the prompt."""

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
    """A guider for the MODEL of a TiM; ValueError for an empty interval of times."""
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
    """A guider for several runs in a row, which reports their progress as that of one run of all `steps`."""

    def __init__(self, guider: comfy.samplers.CFGGuider, steps: int):
        self.guider, self.steps, self.done = guider, steps, 0
        self.model_patcher = guider.model_patcher  # all that the stock node wants beside `sample`

    def sample(self, noise: Tensor, latent: Tensor, sampler, sigmas: Tensor, callback, **options) -> Tensor:
        def report(step: int, denoised: Tensor, x: Tensor, steps: int) -> None:
            callback(self.done + step, denoised, x, self.steps)

        samples = self.guider.sample(noise, latent, sampler, sigmas, callback=report, **options)
        self.done += len(sigmas) - 1
        return samples
