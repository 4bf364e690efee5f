"""dF/dt: the total derivative of the network along the path x_t, with r fixed and without gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tim_model.attention import plain_attention
from tim_model.transport import Transport

Network = Callable[..., Tensor]  # (x_t (B,C,H,W), c_noise(t) (B,), c_noise(r) (B,), context) -> F like x_t


def per_sample(t: Tensor, x: Tensor) -> Tensor:
    """Values (B,) shaped to broadcast over x (B,...)."""
    return t.view(-1, *(1,) * (x.ndim - 1))


def mix(path: Transport, x: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The state x_t = alpha x + sigma noise and its velocity v_t, like x, at times t (B,)."""
    alpha, sigma, d_alpha, d_sigma = path.interpolant(per_sample(t, x))
    return alpha * x + sigma * noise, d_alpha * x + d_sigma * noise


def dde(
    net: Network, path: Transport, x: Tensor, noise: Tensor, t: Tensor, r: Tensor, context: Tensor,
    epsilon: float, batched: bool,
) -> Tensor:  # fmt: skip
    """Differential derivation equation (arXiv 2509.04394, section 3.2): a central difference of step `epsilon`.

    The states at t +- epsilon are mixed anew from the same x and noise. As released nothing is clamped where the path
    goes on beyond its ends (ot_fm, trigflow; all of them above T_max). edm, vp and ve have no states at t <= 0, so
    that there the lower time stops at T_min and the difference is taken over what remains.

    Args:
        batched: both states in one call of the network, twice its batch; else one after another.
    """
    later, earlier = t + epsilon, t - epsilon
    if path.T_min > 0:
        earlier = earlier.clamp(min=path.T_min)
    states = [mix(path, x, noise, time)[0] for time in (later, earlier)]
    times = [path.c_noise(time) for time in (later, earlier)]
    c_r = path.c_noise(r)
    if batched:
        both = torch.cat([context, context])
        F_later, F_earlier = net(torch.cat(states), torch.cat(times), torch.cat([c_r, c_r]), both).chunk(2)
    else:
        F_later, F_earlier = (net(state, time, c_r, context) for state, time in zip(states, times, strict=True))
    return (F_later - F_earlier) / per_sample(later - earlier, x)


def jvp(
    net: Network, path: Transport, x: Tensor, noise: Tensor, t: Tensor, r: Tensor, context: Tensor,
    epsilon: float, batched: bool,
) -> Tensor:  # fmt: skip
    """Forward-mode differentiation with tangents (v_t, 1, 0); `epsilon` and `batched` are not used.

    The network is called with `plain_attention`, since fused kernels have no forward mode.
    """
    x_t, v_t = mix(path, x, noise, t)

    def along_path(x_t: Tensor, t: Tensor) -> Tensor:
        return net(x_t, path.c_noise(t), path.c_noise(r), context, attention=plain_attention)

    return torch.func.jvp(along_path, (x_t, t), (v_t, torch.ones_like(t)))[1]


DERIVATIVES: dict[str, Callable[..., Tensor]] = {"dde": dde, "jvp": jvp}


@torch.no_grad()
def total_derivative(
    net: Network, path: Transport, x: Tensor, noise: Tensor, t: Tensor, r: Tensor, context: Tensor,
    derivative: str = "dde", epsilon: float = 0.005, batched: bool = True,
) -> Tensor:  # fmt: skip
    """dF/dt like x: 0 in the diffusion rows (t = r), which the network never sees, by a `DERIVATIVES` entry elsewhere.

    The network stays in its current mode. It draws no random numbers of its own, so that all passes agree.

    Args:
        x, noise: (B,C,H,W). t, r: transport times (B,), r <= t. context: (B,...).

    Raises:
        ValueError: unknown derivative, or epsilon <= 0.
    """
    if derivative not in DERIVATIVES:
        raise ValueError(f"derivative {derivative!r}: expected one of {', '.join(DERIVATIVES)}")
    if not epsilon > 0:
        raise ValueError(f"epsilon={epsilon}: expected a time difference above 0, 0.005 as published")
    dF_dt = torch.zeros_like(x)
    rows = (t != r).nonzero().flatten()
    if len(rows):
        inputs = (value[rows] for value in (x, noise, t, r, context))
        dF_dt[rows] = DERIVATIVES[derivative](net, path, *inputs, epsilon, batched).to(x.dtype)
    return dF_dt
