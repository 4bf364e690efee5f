"""Four objectives for the network F(x_t, t, r, context), and the selection by a recipe.

Each is f(net, path, sample, ..., wrapped) with the transport as `path`; the settings that it reads besides are keyword
arguments, which `make_objective` binds once. Passes without gradient, for targets, call `net`. The one pass with
gradient calls `wrapped`, the same network in a wrapper that averages gradients over processes; `net` by default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from tim_model.sampling.transport import Transport, per_sample

from ..config.schema import ObjectiveConfig
from .derivative import Derivative, configured_derivative, jvp, total_derivative
from .guidance import Guidance
from .loss import LossOutput, denoising_loss, finite_rows, predict, time_weight, transition_target
from .sample import Network, Sample

ADAPTIVE_EPS = 1e-5
MEANFLOW_EPS = 1e-3

Objective = Callable[..., LossOutput]  # of (net, path, sample, wrapped=None)


def make_objective(config: ObjectiveConfig, ema: Network | None = None) -> Objective:
    """The objective of a recipe, with its settings bound; the transport is `get_transport(config.transport)`.

    Args:
        ema: the network for the guidance-enhanced target, if `config.guided` is set.
    """
    guidance = Guidance(ema, config.w_gt, config.w_cond, config.w_start, config.w_end) if config.guided else None
    if config.name == "tim":
        return partial(tim, derivative=configured_derivative(config), cosine=config.cosine, guidance=guidance)
    if config.name == "meanflow":
        return partial(meanflow, power=config.power, guidance=guidance)
    if config.name == "split_meanflow":
        return partial(split_meanflow, guidance=guidance)
    return partial(flow_matching, guidance=guidance)


def tim(
    net: Network, path: Transport, sample: Sample, derivative: Derivative, cosine: bool,
    guidance: Guidance | None = None, wrapped: Network | None = None,
) -> LossOutput:  # fmt: skip
    """Transition Models (arXiv 2509.04394), the released loss.

    Args:
        net: a TiM network, or any F(x_t, c_noise(t), c_noise(r), context). It must not draw random numbers, else the
            passes disagree: TiM has no dropout, and labels or captions are dropped before they come here.
        cosine: adds 1 - cosine similarity over channels, mean over positions, to the squared error.
    """
    dF_dt = total_derivative(net, path, sample, derivative)
    target = transition_target(path, sample, dF_dt, guidance)
    F_pred, proj_loss = predict(wrapped or net, path, sample)
    loss = denoising_loss(F_pred, target, cosine)
    weight = time_weight(path, sample.t, sample.r)
    weighted = weight * loss / (loss.detach() + ADAPTIVE_EPS)
    return LossOutput(target, dF_dt, weight, loss, weighted.mean(), proj_loss, finite_rows(F_pred, target))


def flow_matching(
    net: Network, path: Transport, sample: Sample, guidance: Guidance | None = None, wrapped: Network | None = None
) -> LossOutput:
    """Flow matching (arXiv 2210.02747), the instantaneous velocity alone: all rows become r = t, squared error."""
    sample = sample.at_rest()
    dF_dt = torch.zeros_like(sample.x)
    target = transition_target(path, sample, dF_dt, guidance)
    return squared_error(wrapped or net, path, sample, target, dF_dt)


def meanflow(
    net: Network, path: Transport, sample: Sample, power: float,
    guidance: Guidance | None = None, wrapped: Network | None = None,
) -> LossOutput:  # fmt: skip
    """MeanFlow (arXiv 2505.13447, eq. 10 and 22): the target of TiM by JVP, squared error with an adaptive weight.

    Args:
        power: of the adaptive weight, 0 for none.
    """
    dF_dt = total_derivative(net, path, sample, jvp)
    target = transition_target(path, sample, dF_dt, guidance)
    out = squared_error(wrapped or net, path, sample, target, dF_dt)
    return replace(out, weighted_loss=adaptive(out.denoising_loss, sample.x[0].numel(), power).mean())


def split_meanflow(
    net: Network, path: Transport, sample: Sample, guidance: Guidance | None = None, wrapped: Network | None = None
) -> LossOutput:
    """SplitMeanFlow (arXiv 2507.16884): (t-r) u(t->r) = (s-r) u(s->r) + (t-s) u(t->s), two passes without gradient.

    The squared error has no adaptive weight: the network is its own target here, and a weight that leaves large errors
    without gradient lets them grow.

    Args:
        sample: `split` says where s lies; the middle where it is None.

    Raises:
        ValueError: a transport other than ot_fm, whose average velocities alone add up like that.
    """
    if path.name != "ot_fm":
        raise ValueError(f"split_meanflow on {path.name}: expected transport ot_fm, the linear path")
    dF_dt, target = torch.zeros_like(sample.x), torch.empty_like(sample.x)
    if len(rows := sample.rows(torch.eq)):
        placed = sample.placed(rows)
        target[placed] = transition_target(path, sample.at(rows), dF_dt[placed], guidance)
    if len(rows := sample.rows(torch.ne)):
        target[sample.placed(rows)] = composed_velocity(net, path, sample.at(rows))
    return squared_error(wrapped or net, path, sample, target, dF_dt)


def squared_error(net: Network, path: Transport, sample: Sample, target: Tensor, dF_dt: Tensor) -> LossOutput:
    """The mean squared distance to a target, all times weighing the same."""
    F_pred, proj_loss = predict(net, path, sample)
    loss = denoising_loss(F_pred, target, cosine=False)
    weight = torch.ones_like(sample.t)
    return LossOutput(target, dF_dt, weight, loss, loss.mean(), proj_loss, finite_rows(F_pred, target))


@torch.no_grad()
def composed_velocity(net: Network, path: Transport, sample: Sample) -> Tensor:
    """The average velocity from t to r that the network's own steps t -> s -> r make, like x."""
    x_t, t, r, context = path.interpolate(sample.x, sample.noise, sample.t)[0], sample.t, sample.r, sample.context
    split = torch.full_like(t, 0.5) if sample.split is None else sample.split.to(t)
    s = r + split * (t - r)
    u_first = net(x_t, t, s, context)
    x_s = x_t - per_sample(t - s, x_t) * u_first
    u_second = net(x_s, s, r, context)
    share = per_sample(split, x_t)
    return (share * u_second + (1 - share) * u_first).to(x_t.dtype)


def adaptive(loss: Tensor, elements: int, power: float) -> Tensor:
    """Squared error over (squared error + c)^power (B,), the divisor without gradient, of mean squared errors (B,)."""
    squared = loss * elements
    return squared / (squared.detach() + MEANFLOW_EPS) ** power
