"""As many transitions as each image needs, as a SAMPLER of the host."""

from __future__ import annotations

from collections.abc import Callable

import comfy.samplers
import torch
from torch import Tensor

from ...tim_model.sampling.adaptive import check_tolerance, sample_adaptively
from ..graph.notices import warn
from .model import TiMModel
from .transition_sampler import keeps_part, reporting, sample_transitions, transition_field


def sample_tolerance(
    model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None, tolerance: float = 0.15
) -> Tensor:
    """`tim_model.sampling.adaptive.sample_adaptively` in the form of the host's samplers: a sigma is a time t.

    Under a noise mask that keeps something, the steps are those of `sample_transitions`: what a jump leads to does not
    depend on what is kept, so that it says nothing about the steps that are needed.

    Raises:
        ValueError: a model that is no TiM, and as `sample_adaptively`.
    """
    if len(sigmas) < 2:
        return x
    refuse_other_models(model)
    extra_args = extra_args or {}
    if keeps_part(extra_args):
        warn(f"under a noise mask no tolerance is measured: {len(sigmas) - 1} steps, as of TiM Transition Sampler")
        return sample_transitions(model, x, sigmas, extra_args, callback, disable)
    field, times = transition_field(model, extra_args), torch.as_tensor(sigmas).tolist()
    with reporting(len(times) - 1, callback, disable) as report:
        return sample_adaptively(field, x, times, tolerance, None, callback=report)


def refuse_other_models(model: Callable) -> None:
    """ValueError for a sampler's model without transitions."""
    base = model.inner_model.inner_model
    if isinstance(base, TiMModel):
        return
    raise ValueError(
        f"{type(base).__name__} is no TiM model, for which alone TiM Adaptive Sampler is: take one of KSamplerSelect, "
        "or a Sampler (flow) of this pack"
    )


def build_adaptive_sampler(tolerance: float) -> comfy.samplers.KSAMPLER:
    """The SAMPLER of `sample_tolerance`; ValueError for a tolerance that is not above 0."""
    check_tolerance(tolerance)
    return comfy.samplers.KSAMPLER(sample_tolerance, {"tolerance": tolerance})
