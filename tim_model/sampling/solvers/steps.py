"""What every solver is made of: the velocity that it calls, the steps that it reports, and the checks around a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..sampler import Step
from ..schedule import check_times

Velocity = Callable[[Tensor, float], Tensor]
"""F(x (B,...), t) -> noise - x at time t, like x, guidance included. It is never called at t = 0."""
Report = Callable[[Step], None]
"""Called after each step; its F is the velocity that the step started with, called or extrapolated."""


def start(noise: Tensor, times: Sequence[float]) -> tuple[Tensor, list[tuple[float, float]]]:
    """The state at times[0], at least in float32, and the steps (t, r).

    Raises:
        ValueError: times that are not strictly decreasing within [0, 1].
    """
    steps = list(pairwise(check_times([float(t) for t in times])))
    return noise.to(torch.promote_types(noise.dtype, torch.float32)), steps


def finish(x: Tensor) -> Tensor:
    """The state at the last time; ValueError where the velocity was not finite."""
    if not bool(x.isfinite().all()):
        raise ValueError("the result is not finite (NaN or infinite): the model's velocity is not, try float32 weights")
    return x


def euler(velocity: Velocity, noise: Tensor, times: Sequence[float], report: Report | None = None) -> Tensor:
    """First order, one call a step: x_r = x_t - (t - r) F. The arguments are those of every solver.

    Args:
        velocity: see `Velocity`.
        noise: the state (B,...) at times[0].
        times: strictly decreasing within [0, 1].
        report: see `Report`.

    Returns:
        The state at times[-1], at least in float32.

    Raises:
        ValueError: bad times, or a result that is not finite.
    """
    x, steps = start(noise, times)
    for i, (t, r) in enumerate(steps):
        F = velocity(x, t)
        x = stepped(i, t, r, x, F, x + (r - t) * F, report)
    return finish(x)


def stepped(i: int, t: float, r: float, x_t: Tensor, F: Tensor, x_r: Tensor, report: Report | None) -> Tensor:
    """`x_r`, reported."""
    if report is not None:
        report(Step(i, t, r, x_t, F, x_r))
    return x_r


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner products (B,) of each image's elements."""
    return (a * b).flatten(1).sum(1)


class Counted:
    """A velocity that counts its calls."""

    def __init__(self, velocity: Velocity):
        self.velocity, self.calls = velocity, 0

    def __call__(self, x: Tensor, t: float) -> Tensor:
        self.calls += 1
        return self.velocity(x, t)
