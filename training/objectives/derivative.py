"""dF/dt: the total derivative of the network along the path x_t, with r fixed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tim_model.network.attention import plain_attention
from tim_model.sampling.transport import Transport, per_sample

from ..config.schema import ObjectiveConfig
from .sample import Network, Sample

Derivative = Callable[[Network, Transport, Sample], Tensor]  # dF/dt like x, in every row


def dde(net: Network, path: Transport, sample: Sample, epsilon: float, batched: bool) -> Tensor:
    """Differential derivation equation (arXiv 2509.04394, section 3.2): a central difference of step `epsilon`.

    The states at t +- epsilon are mixed from the same x and noise. As released nothing is clamped where the path
    goes on beyond its ends (ot_fm, trigflow; all of them above T_max). edm, vp and ve have no states at t <= 0, so
    that there the lower time stops at T_min and the difference is taken over what remains.

    Args:
        epsilon: half the time between the two states, above 0.
        batched: both states in one call of the network, twice its batch; else one after another.
    """
    x, noise, context = sample.x, sample.noise, sample.context
    later, earlier = sample.t + epsilon, sample.t - epsilon
    if path.T_min > 0:
        earlier = earlier.clamp(min=path.T_min)
    states = [path.interpolate(x, noise, time)[0] for time in (later, earlier)]
    times = [path.c_noise(time) for time in (later, earlier)]
    c_r = path.c_noise(sample.r)
    if batched:
        both = torch.cat([context, context])
        F_later, F_earlier = net(torch.cat(states), torch.cat(times), torch.cat([c_r, c_r]), both).chunk(2)
    else:
        F_later, F_earlier = (net(state, time, c_r, context) for state, time in zip(states, times, strict=True))
    return (F_later - F_earlier) / per_sample(later - earlier, x)


def jvp(net: Network, path: Transport, sample: Sample) -> Tensor:
    """Forward-mode differentiation with tangents (v_t, 1, 0).

    The network is called with `plain_attention`, since fused kernels have no forward mode.
    """
    x_t, v_t = path.interpolate(sample.x, sample.noise, sample.t)

    def along_path(x_t: Tensor, t: Tensor) -> Tensor:
        return net(x_t, path.c_noise(t), path.c_noise(sample.r), sample.context, attention=plain_attention)

    return torch.func.jvp(along_path, (x_t, sample.t), (v_t, torch.ones_like(sample.t)))[1]


def predict_with_derivative(
    net: Network, path: Transport, sample: Sample, velocity: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """F, the REPA features where `sample` has their target, and dF/dt, all with gradient, by one pass of `jvp`.

    Args:
        velocity: of x_t, the tangent, like x.
    """
    x_t, c_r = path.interpolate(sample.x, sample.noise, sample.t)[0], path.c_noise(sample.r)
    options = {"attention": plain_attention} | ({} if sample.h_target is None else {"return_projection": True})

    def along_path(x_t: Tensor, t: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        out = net(x_t, path.c_noise(t), c_r, sample.context, **options)
        return (out, ()) if sample.h_target is None else (out[0], out[1:])

    tangents = velocity, torch.ones_like(sample.t)
    F_pred, dF_dt, features = torch.func.jvp(along_path, (x_t, sample.t), tangents, has_aux=True)
    return F_pred, features[0] if features else None, dF_dt


def configured_derivative(config: ObjectiveConfig) -> Derivative:
    """The derivative of a recipe, with its settings bound."""
    if config.derivative == "jvp":
        return jvp
    return partial(dde, epsilon=config.epsilon, batched=config.batched)


@torch.no_grad()
def total_derivative(net: Network, path: Transport, sample: Sample, derivative: Derivative) -> Tensor:
    """dF/dt like x: 0 in the diffusion rows (t = r), which the network never sees, by `derivative` elsewhere.

    The network stays in its current mode. It draws no random numbers of its own, so that all passes agree.
    """
    dF_dt = torch.zeros_like(sample.x)
    rows = sample.rows(torch.ne)
    if len(rows):
        dF_dt[sample.placed(rows)] = derivative(net, path, sample.at(rows)).to(dF_dt.dtype)
    return dF_dt
