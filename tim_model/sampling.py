"""The any-step sampler: one network call (two with guidance) moves the state exactly from each time to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .net import TiM
from .schedule import check_times
from .transport import get_transport

Interval = tuple[float, float]


@dataclass(frozen=True)
class Step:
    """One finished transition, as `sample` reports it to its callback."""

    i: int  # 0-based
    t: float
    r: float
    x_t: Tensor
    F: Tensor
    x_r: Tensor


def is_guided(t: float, cfg: float, interval: Interval) -> bool:
    """Whether a step that starts at t is guided: both ends of the interval are strict, as released.

    A time within 1e-6 of an end is on it, whether it is 0.7 as a double or as a float32.
    """
    low, high = interval
    return cfg > 1 and low + 1e-6 < t < high - 1e-6


def guided(net: Callable, x: Tensor, t: Tensor, r: Tensor, context: Tensor, null_context: Tensor, cfg: float) -> Tensor:
    """Classifier-free guidance: the null prediction plus cfg times the difference to the conditional one.

    A TiM network gets both halves as one batch, which is faster and rounds as hosts do; any other function two calls.
    """
    if isinstance(net, TiM) and context.shape == null_context.shape:
        both = torch.cat([context, null_context])
        F_cond, F_null = net(torch.cat([x, x]), torch.cat([t, t]), torch.cat([r, r]), both).chunk(2)
    else:
        F_cond, F_null = net(x, t, r, context), net(x, t, r, null_context)
    return F_null + cfg * (F_cond - F_null)


def noisy_step(x_t: Tensor, t: float, r: float, F: Tensor, stochasticity: float, noise: Tensor) -> Tensor:
    """The stochastic transition of ot_fm: part of the predicted noise is replaced by fresh `noise`, like x_t."""
    z_hat = x_t + (1 - t) * F
    x_r = x_t - (t - r) * F - stochasticity * (t - r) * z_hat
    return x_r + (2 * stochasticity * t * (t - r)) ** 0.5 * noise


@torch.no_grad()
def sample(
    net: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    noise: Tensor,
    times: Sequence[float],
    context: Tensor,
    null_context: Tensor | None = None,
    cfg: float = 1.0,
    guidance_interval: Interval = (0.0, 1.0),
    stochasticity: float = 0.0,
    velocity: bool = False,
    noise_fn: Callable[[Tensor], Tensor] = torch.randn_like,
    callback: Callable[[Step], None] | None = None,
    transport: str = "ot_fm",
    restart: bool = False,
) -> Tensor:
    """Move `noise`, the state at times[0], through all `times`; returns the state at times[-1], at least in float32.

    Args:
        net: a TiM network or any F(x_t (B,C,H,W), t (B,), r (B,), context) -> F like x_t.
        times: strictly decreasing, from `make_times`, `parse_times` or your own.
        context, null_context: conditions of the guided and of the null pass; a class network knows its own null label.
        cfg: guidance scale; up to 1 means none.
        guidance_interval: absolute times (low, high) between which steps are guided, both ends strict: the default
            leaves the step at t = 1 unguided, as released; (-inf, inf) guides every step.
        stochasticity: share of noise renewed on the way (ot_fm only), 0.2 in the released class presets.
        velocity: give the network r = t, which makes it an ordinary flow-matching model under Euler steps.
        noise_fn: draws the Gaussian noise of a stochastic step, like its argument.
        callback: called after every step.
        transport: a name in `TRANSPORTS`.
        restart: go from each time t to the picture x_t - t F and back to r with fresh noise alone (ot_fm only), in
            place of `stochasticity`; with velocities that serves inpainting.

    Raises:
        ValueError: bad times, guidance without a null context, or stochasticity or restarts on another transport.
    """
    path = get_transport(transport)
    times = check_times([float(t) for t in times], path.T_max)
    check_run(times, stochasticity, transport, restart)
    if any(is_guided(t, cfg, guidance_interval) for t in times[:-1]) and null_context is None:
        null_context = default_null(net, context, cfg)

    x = noise.to(torch.promote_types(noise.dtype, torch.float32))  # the state and its times never in bfloat16

    def batch(t: float) -> Tensor:
        return x.new_full((len(x),), t)

    for i, (t, r) in enumerate(pairwise(times)):
        c_t = path.c_noise(batch(t))
        c_r = c_t if velocity else path.c_noise(batch(r))
        if is_guided(t, cfg, guidance_interval):
            F = guided(net, x, c_t, c_r, context, null_context, cfg)
        else:
            F = net(x, c_t, c_r, context)
        if restart and r > path.T_min:
            x_r = (1 - r) * (x - t * F) + r * noise_fn(x)
        elif stochasticity and not restart and t < path.T_max and r > path.T_min:
            x_r = noisy_step(x, t, r, F, stochasticity, noise_fn(x))
        else:
            x_r = path.step(x, x.new_tensor(t), x.new_tensor(r), F)
        if callback is not None:
            callback(Step(i, t, r, x, F, x_r))
        x = x_r
    return x


def check_run(times: Sequence[float], stochasticity: float, transport: str, restart: bool = False) -> None:
    """Raise ValueError for times, a stochasticity or restarts that the transport does not have."""
    path = get_transport(transport)
    if not path.c_noise(torch.tensor(times[-1])).isfinite():
        raise ValueError(f"times end at {times[-1]:g}: {transport} expects them to end at {path.T_min:g} or above")
    if stochasticity < 0 or (stochasticity and transport != "ot_fm"):
        raise ValueError(f"stochasticity={stochasticity} on {transport}: expected 0, or more than 0 on ot_fm")
    if restart and transport != "ot_fm":
        raise ValueError(f"restarts on {transport}: expected ot_fm, which they go back on")


def default_null(net: Callable, context: Tensor, cfg: float) -> Tensor:
    """The null labels of a class network; ValueError for a network that needs to be told its null context."""
    num_classes = getattr(getattr(net, "params", None), "num_classes", None)
    if num_classes is None:
        raise ValueError(f"cfg={cfg} needs null_context: pass the features of the empty or negative prompt, or cfg=1")
    return torch.full_like(context, num_classes)
