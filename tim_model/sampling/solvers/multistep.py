"""Second order with one call a step: Adams-Bashforth, and A-FloPS, which integrates a linear part exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..sampler import per_image
from .steps import Report, Velocity, dot, finish, start, stepped

SMALL = 0.5  # below it, series are more exact than the closed forms of phi1 and phi2
FACTORIALS = [1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880, 3628800, 39916800]


def ab2(velocity: Velocity, noise: Tensor, times: Sequence[float], report: Report | None = None) -> Tensor:
    """Adams-Bashforth of second order for steps of any lengths; the first step is Euler's.

    x_r = x_t + h (F + h/2 (F - F_prev) / (t - t_prev)) with h = r - t. Arguments and errors as for `euler`.
    """
    x, steps = start(noise, times)
    before = None  # (t, F) of the last call
    for i, (t, r) in enumerate(steps):
        F, h = velocity(x, t), r - t
        slope = 0 if before is None else (F - before[1]) / (t - before[0])
        before = t, F
        x = stepped(i, t, r, x, F, x + h * (F + h / 2 * slope), report)
    return finish(x)


def a_flops(
    velocity: Velocity, noise: Tensor, times: Sequence[float], clamp: float = 1.0, report: Report | None = None
) -> Tensor:
    """A-FloPS (arXiv 2509.00036): F = c x + w with the scalar c of each image for which w has changed least.

    The linear part is integrated exactly, w to second order: x_r = e^(ch) x + h phi1(ch) w + h² phi2(ch) dw/dt. On a
    linear path the paper's change of variables is the identity. Equations after two published reproductions that agree.

    Args:
        clamp: c stays within [-clamp, clamp]; 0 gives `ab2`. The paper speaks of a clamp to 1.

    Raises:
        ValueError: as for `euler`, or a negative clamp.
    """
    if clamp < 0:
        raise ValueError(f"clamp={clamp:g}: expected 0 (AB2) or more")
    x, steps = start(noise, times)
    before = None  # (t, x, F) of the last step
    for i, (t, r) in enumerate(steps):
        F, h = velocity(x, t), r - t
        if before is None:
            x_r = x + h * F
        else:
            t_prev, x_prev, F_prev = before
            c = per_image(x, linear_share(x - x_prev, F - F_prev, clamp))
            w, slope = F - c * x, (F - F_prev - c * (x - x_prev)) / (t - t_prev)
            x_r = (c * h).exp() * x + h * phi(1, c * h) * w + h**2 * phi(2, c * h) * slope
        before = t, x, F
        x = stepped(i, t, r, x, F, x_r, report)
    return finish(x)


def linear_share(dx: Tensor, dF: Tensor, clamp: float) -> Tensor:
    """c (B,): the least squares of dF = c dx over each image."""
    return (dot(dF, dx) / (dot(dx, dx) + 1e-8)).clamp(-clamp, clamp)


def phi(order: int, z: Tensor) -> Tensor:
    """phi1 = (e^z - 1)/z or phi2 = (e^z - 1 - z)/z²: the sum of z^k / (k + order)!."""
    series = torch.zeros_like(z)
    for k in reversed(range(len(FACTORIALS) - order)):
        series = series * z + 1 / FACTORIALS[k + order]
    safe = torch.where(z.abs() < SMALL, 1.0, z)
    closed = safe.expm1() / safe if order == 1 else (safe.expm1() - safe) / safe**2
    return torch.where(z.abs() < SMALL, series, closed)
