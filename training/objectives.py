"""Four objectives for the same network F(x_t, t, r, context), one signature, selected by name from `OBJECTIVES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tim_model.transport import get_transport

from .derivative import Network, mix, per_sample, total_derivative
from .loss import (
    Guidance,
    LossOutput,
    check_batch,
    denoising_loss,
    finite_rows,
    make_target,
    predict,
    transition_loss,
)  # fmt: skip

MEANFLOW_EPS = 1e-3


@dataclass(frozen=True)
class ObjectiveSettings:
    """What shapes the loss; every field says which objectives read it.

    Raises:
        ValueError: a number out of range.
    """

    transport: str = "ot_fm"  # all; split_meanflow knows ot_fm only
    derivative: str = "dde"  # tim: dde or jvp
    epsilon: float = 0.005  # tim: half the time between the two passes of dde
    batched: bool = True  # tim: both passes of dde in one call, faster for more memory
    cosine: bool = True  # tim: adds the cosine term
    power: float = 1.0  # meanflow: of the adaptive weight, 0 for none

    def __post_init__(self):
        if not self.epsilon > 0:
            raise ValueError(f"epsilon={self.epsilon}: expected a time difference above 0, 0.005 as published")
        if not self.power >= 0:
            raise ValueError(f"power={self.power}: expected a number from 0 (no adaptive weight), 1 as published")


def tim(
    net: Network, x: Tensor, noise: Tensor, t: Tensor, r: Tensor, context: Tensor,
    settings: ObjectiveSettings = ObjectiveSettings(), h_target: Tensor | None = None,
    guidance: Guidance | None = None, split: Tensor | None = None,
) -> LossOutput:  # fmt: skip
    """Transition Models (arXiv 2509.04394): see `transition_loss`."""
    s = settings
    return transition_loss(
        net, x, noise, t, r, context, s.transport, s.derivative, s.epsilon, s.cosine, h_target,
        batched=s.batched, guidance=guidance,
    )  # fmt: skip


def flow_matching(
    net: Network, x: Tensor, noise: Tensor, t: Tensor, r: Tensor, context: Tensor,
    settings: ObjectiveSettings = ObjectiveSettings(), h_target: Tensor | None = None,
    guidance: Guidance | None = None, split: Tensor | None = None,
) -> LossOutput:  # fmt: skip
    """Flow matching (arXiv 2210.02747), the instantaneous velocity alone: all rows become r = t, squared error."""
    check_batch(x, noise, t, r)
    path = get_transport(settings.transport)
    dF_dt = torch.zeros_like(x)
    target = make_target(path, x, noise, t, t, dF_dt, guidance)
    F_pred, proj_loss = predict(net, path, mix(path, x, noise, t)[0], t, t, context, h_target)
    loss = denoising_loss(F_pred, target, cosine=False)
    return LossOutput(target, dF_dt, torch.ones_like(t), loss, loss.mean(), proj_loss, finite_rows(F_pred, target))


def meanflow(
    net: Network, x: Tensor, noise: Tensor, t: Tensor, r: Tensor, context: Tensor,
    settings: ObjectiveSettings = ObjectiveSettings(), h_target: Tensor | None = None,
    guidance: Guidance | None = None, split: Tensor | None = None,
) -> LossOutput:  # fmt: skip
    """MeanFlow (arXiv 2505.13447, eq. 10 and 22): the target of TiM by JVP, squared error with an adaptive weight."""
    check_batch(x, noise, t, r)
    path = get_transport(settings.transport)
    dF_dt = total_derivative(net, path, x, noise, t, r, context, "jvp")
    target = make_target(path, x, noise, t, r, dF_dt, guidance)
    F_pred, proj_loss = predict(net, path, mix(path, x, noise, t)[0], t, r, context, h_target)
    loss = denoising_loss(F_pred, target, cosine=False)
    weighted = adaptive(loss, x[0].numel(), settings.power)
    return LossOutput(target, dF_dt, torch.ones_like(t), loss, weighted.mean(), proj_loss, finite_rows(F_pred, target))


def split_meanflow(
    net: Network, x: Tensor, noise: Tensor, t: Tensor, r: Tensor, context: Tensor,
    settings: ObjectiveSettings = ObjectiveSettings(), h_target: Tensor | None = None,
    guidance: Guidance | None = None, split: Tensor | None = None,
) -> LossOutput:  # fmt: skip
    """SplitMeanFlow (arXiv 2507.16884): (t-r) u(t->r) = (s-r) u(s->r) + (t-s) u(t->s), two passes without gradient.

    The squared error has no adaptive weight: the network is its own target here, and a weight that leaves large errors
    without gradient lets them grow.

    Args:
        split: where s lies, 0 at r and 1 at t, (B,) uniform draws; the middle by default.

    Raises:
        ValueError: a transport other than ot_fm, whose average velocities alone add up like that.
    """
    check_batch(x, noise, t, r)
    if settings.transport != "ot_fm":
        raise ValueError(f"split_meanflow on {settings.transport}: expected transport ot_fm, the linear path")
    path = get_transport(settings.transport)
    split = torch.full_like(t, 0.5) if split is None else split.to(t)
    x_t = mix(path, x, noise, t)[0]
    dF_dt, target = torch.zeros_like(x), torch.empty_like(x)
    if len(rows := (t == r).nonzero().flatten()):
        ends = (value[rows] for value in (x, noise, t, t, dF_dt))
        target[rows] = make_target(path, *ends, guidance and guidance.at(rows))
    if len(rows := (t != r).nonzero().flatten()):
        target[rows] = composed_velocity(net, *(value[rows] for value in (x_t, t, r, split, context)))
    F_pred, proj_loss = predict(net, path, x_t, t, r, context, h_target)
    loss = denoising_loss(F_pred, target, cosine=False)
    return LossOutput(target, dF_dt, torch.ones_like(t), loss, loss.mean(), proj_loss, finite_rows(F_pred, target))


@torch.no_grad()
def composed_velocity(net: Network, x_t: Tensor, t: Tensor, r: Tensor, split: Tensor, context: Tensor) -> Tensor:
    """The average velocity from t to r that the network's own steps t -> s -> r make, like x_t."""
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


OBJECTIVES: dict[str, Callable[..., LossOutput]] = {
    "tim": tim, "flow_matching": flow_matching, "meanflow": meanflow, "split_meanflow": split_meanflow,
}  # fmt: skip
