"""The host's own guider, samplers and schedulers, as KSampler puts them together."""

from __future__ import annotations

import comfy.samplers
import torch
from torch import Tensor

from ..graph.notices import warn


def stock_guider(model, positive: list, negative: list, cfg: float) -> comfy.samplers.CFGGuider:
    """KSampler's guider: guidance in every step, none at cfg 1."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def stock_sigmas(model, sampler_name: str, scheduler: str, steps: int) -> Tensor:
    """KSampler's sigmas for a MODEL; a warning where the scheduler makes another number of steps."""
    sigmas = comfy.samplers.KSampler(model, steps, torch.device("cpu"), sampler_name, scheduler).sigmas
    if len(sigmas) - 1 != steps:
        warn(f"scheduler {scheduler} makes {len(sigmas) - 1} steps where {steps} were asked for: these are drawn")
    return sigmas
