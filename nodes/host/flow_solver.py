"""A solver for flow-matching velocities as a SAMPLER, for any flow model of the host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import comfy.model_base
import comfy.model_sampling
import comfy.samplers
import torch
from torch import Tensor

from ...tim_model.sampling.noise import image_noise_stream
from ...tim_model.sampling.sampler import per_image
from ...tim_model.sampling.solvers.epd import EPDTable, epd, fingerprint
from ...tim_model.sampling.solvers.steps import Counted
from .transition_sampler import reporting

logger = logging.getLogger(__name__)


def sample_velocities(model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None, solver=None):
    """A solver in the form of the host's samplers: x is the state at sigmas[0], a sigma of a flow model is a time t.

    The host's model returns x - t F, so that guidance, LoRA, masks and previews are those of its own samplers. A TiM
    model gives its velocities, r = t, as to every sampler that makes no transitions.

    Raises:
        ValueError: a model that is no flow model, bad times, or a result that is not finite.
    """
    if len(sigmas) < 2:
        return x
    extra_args = extra_args or {}
    flow_model_of(model)

    def field(x_t: Tensor, t: float) -> Tensor:
        times = x_t.new_full((len(x_t),), t)
        return (x_t - model(x_t, times, **extra_args)) / per_image(x_t, times)

    velocity = Counted(field)
    with reporting(len(sigmas) - 1, callback, disable) as report:
        end = solver(model, extra_args)(velocity, x, torch.as_tensor(sigmas).tolist(), report=report)
    logger.info(f"{velocity.calls} network calls in {len(sigmas) - 1} steps")
    return end


def flow_model_of(model: Callable) -> comfy.model_base.BaseModel:
    """The flow model that a sampler calls; ValueError for one whose sigmas are not the times of a flow."""
    base = model.inner_model.inner_model
    if isinstance(base.model_sampling, comfy.model_sampling.CONST):
        return base
    raise ValueError(
        f"{type(base).__name__} is no flow-matching model, for which alone this sampler is: take euler or another "
        "sampler of KSamplerSelect"
    )


def flow_sampler(solver: Callable, **settings) -> comfy.samplers.KSAMPLER:
    """The SAMPLER of a solver and its settings."""
    return comfy.samplers.KSAMPLER(sample_velocities, {"solver": lambda model, extra_args: partial(solver, **settings)})


def seeded_flow_sampler(solver: Callable, **settings) -> comfy.samplers.KSAMPLER:
    """The SAMPLER of a solver that draws noise: each image of a batch from a stream of its own of the run's seed."""

    def prepare(model: Callable, extra_args: dict) -> Callable:
        return partial(solver, noise_fn=image_noise_stream(extra_args.get("seed") or 0), **settings)

    return comfy.samplers.KSAMPLER(sample_velocities, {"solver": prepare})


def table_sampler(table_for: Callable[[list[float]], EPDTable]) -> comfy.samplers.KSAMPLER:
    """The SAMPLER of EPD by the table for the run's times, checked against its model and guidance scale."""

    def prepare(model: Callable, extra_args: dict) -> Callable:
        def solver(velocity, x: Tensor, times: list[float], report) -> Tensor:
            table = table_for(times)
            if table.model.any():
                network = flow_model_of(model).diffusion_model
                cfg = float(getattr(model.inner_model, "cfg", 1.0))
                table.check(times, cfg, fingerprint(network.named_parameters()))
            return epd(velocity, x, times, table, report)

        return solver

    return comfy.samplers.KSAMPLER(sample_velocities, {"solver": prepare})
