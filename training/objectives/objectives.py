"""Five objectives for the network F(x_t, t, r, context), and the selection by a recipe.

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

from ..config.schema import ObjectiveConfig, Tangent
from .derivative import Derivative, configured_derivative, jvp, predict_with_derivative, total_derivative
from .guidance import Guidance, Teacher
from .loss import LossOutput, batch_mean, denoising_loss, finite_rows, predict, time_weight, transition_target
from .repa import projection_loss
from .sample import Network, Sample

ADAPTIVE_EPS = 1e-5
MEANFLOW_EPS = 1e-3

Objective = Callable[..., LossOutput]  # of (net, path, sample, wrapped=None)


def make_objective(config: ObjectiveConfig, ema: Network | None = None, teacher: Network | None = None) -> Objective:
    """The objective of a recipe, with its settings bound; the transport is `get_transport(config.transport)`.

    Args:
        ema: the network for the guidance-enhanced target, if `config.guided` is set.
        teacher: the network of `config.teacher`, if that is set.
    """
    guidance = Guidance(ema, config.w_gt, config.w_cond, config.w_start, config.w_end) if config.guided else None
    if config.name == "tim":
        return partial(tim, derivative=configured_derivative(config), cosine=config.cosine, guidance=guidance)
    if config.name == "meanflow":
        return partial(meanflow, power=config.power, guidance=guidance)
    if config.name == "modular_meanflow":
        settings = {"modulation": config.modulation, "warmup": config.modulation_warmup, "tangent": config.tangent}
        return partial(modular_meanflow, **settings, guidance=guidance)
    if config.name == "split_meanflow":
        frozen = Teacher(teacher, config.teacher_cfg) if config.teacher else None
        return partial(split_meanflow, guidance=guidance, teacher=frozen)
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
    loss = denoising_loss(F_pred, target, cosine, sample.mask)
    weight = time_weight(path, sample.t, sample.r)
    weighted = weight * loss / (loss.detach() + ADAPTIVE_EPS)
    total = batch_mean(weighted, sample.weight)
    return LossOutput(target, dF_dt, weight, loss, total, proj_loss, finite_rows(F_pred, target))


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
    weighted = adaptive(out.denoising_loss, sample.x[0].numel(), power)
    return replace(out, weighted_loss=batch_mean(weighted, sample.weight))


def modular_meanflow(
    net: Network, path: Transport, sample: Sample, modulation: float, warmup: int, tangent: Tangent,
    guidance: Guidance | None = None, wrapped: Network | None = None,
) -> LossOutput:  # fmt: skip
    """Modular MeanFlow (arXiv 2508.17426): a share lambda of the derivative's gradient is kept.

    The target of `meanflow` has lambda dF/dt + (1 - lambda) stopgrad(dF/dt) in place of dF/dt; squared error without
    adaptive weight. At lambda = 0 it is `meanflow` with power 0. The published length of the warm-up is not known.

    Args:
        modulation: lambda after the warm-up, 0 to 1.
        warmup: steps over which lambda rises from 0; 0 for none.
        tangent: the velocity in dF/dt where lambda > 0: "own" is the network's F(x_t, t, t) without gradient, "sample"
            is noise - x, whose variance then pulls the gradient of F towards 1 / (t - r): one step loses spread.

    Raises:
        ValueError: a transport other than ot_fm, on which alone F(x_t, t, t) is a velocity.
    """
    if path.name != "ot_fm":
        raise ValueError(f"modular_meanflow on {path.name}: expected transport ot_fm, the linear path")
    share = modulation * min(1.0, sample.step / warmup) if warmup else modulation
    if share == 0:
        return meanflow(net, path, sample, 0.0, guidance, wrapped)
    x_t, velocity = path.interpolate(sample.x, sample.noise, sample.t)
    if tangent == "own":
        with torch.no_grad():
            velocity = net(x_t, sample.t, sample.t, sample.context).to(velocity)
    F_pred, features, dF_dt = predict_with_derivative(wrapped or net, path, sample, velocity)
    target = transition_target(path, sample, share * dF_dt + (1 - share) * dF_dt.detach(), guidance)
    proj_loss = x_t.new_zeros(()) if features is None else projection_loss(features, sample.h_target).mean()
    out = compared(sample, F_pred, proj_loss, target, dF_dt)
    weighted = batch_mean(adaptive(out.denoising_loss, sample.x[0].numel(), power=0.0), sample.weight)
    return replace(out, target=target.detach(), dF_dt=dF_dt.detach(), weighted_loss=weighted)


def split_meanflow(
    net: Network, path: Transport, sample: Sample, guidance: Guidance | None = None,
    teacher: Teacher | None = None, wrapped: Network | None = None,
) -> LossOutput:  # fmt: skip
    """SplitMeanFlow (arXiv 2507.16884): (t-r) u(t->r) = (s-r) u(s->r) + (t-s) u(t->s), two passes without gradient.

    The squared error has no adaptive weight: the network is its own target here, and a weight that leaves large errors
    without gradient lets them grow.

    Args:
        sample: `split` says where s lies; the middle where it is None.
        teacher: its velocity is the target of the rows with r = t, in place of the samples'.

    Raises:
        ValueError: a transport other than ot_fm, whose average velocities alone add up like that.
    """
    if path.name != "ot_fm":
        raise ValueError(f"split_meanflow on {path.name}: expected transport ot_fm, the linear path")
    dF_dt, target = torch.zeros_like(sample.x), torch.empty_like(sample.x)
    if len(rows := sample.rows(torch.eq)):
        placed, part = sample.placed(rows), sample.at(rows)
        if teacher:
            target[placed] = teacher.velocity(path, part)
        else:
            target[placed] = transition_target(path, part, dF_dt[placed], guidance)
    if len(rows := sample.rows(torch.ne)):
        target[sample.placed(rows)] = composed_velocity(net, path, sample.at(rows))
    return squared_error(wrapped or net, path, sample, target, dF_dt)


def squared_error(net: Network, path: Transport, sample: Sample, target: Tensor, dF_dt: Tensor) -> LossOutput:
    """The mean squared distance of the prediction to a target, all times weighing the same."""
    F_pred, proj_loss = predict(net, path, sample)
    return compared(sample, F_pred, proj_loss, target, dF_dt)


def compared(sample: Sample, F_pred: Tensor, proj_loss: Tensor, target: Tensor, dF_dt: Tensor) -> LossOutput:
    """`squared_error` of a prediction that is already made."""
    loss = denoising_loss(F_pred, target, cosine=False, mask=sample.mask)
    weight, total = torch.ones_like(sample.t), batch_mean(loss, sample.weight)
    return LossOutput(target, dF_dt, weight, loss, total, proj_loss, finite_rows(F_pred, target))


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
