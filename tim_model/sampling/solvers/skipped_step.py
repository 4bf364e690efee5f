"""The skipped-step sampler (arXiv 2508.15233): the Gaussian steps of DDPM on any decreasing times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .steps import Report, Velocity, finish, start, stepped


def skipped_step(
    velocity: Velocity,
    noise: Tensor,
    times: Sequence[float],
    eta: float = 1.0,
    switch: float = 0.0,
    noise_fn: Callable[[Tensor], Tensor] = torch.randn_like,
    report: Report | None = None,
) -> Tensor:
    """x_r = (1 - r) x_0 + r (sqrt(1 - eta²(1 - rho²)) e + eta sqrt(1 - rho²) noise), one call a step.

    x_0 = x_t - t F and e = x_t + (1 - t) F are what F says image and noise are; rho = (1 - t) r / ((1 - r) t). The
    kernel is the paper's, in the symbols of flow matching by our own algebra. How the paper joins it with DDIM is not
    known here: `eta` between 0 and 1, and `switch`, are ours.

    Args:
        eta: 1 is the skipped-step sampler, 0 Euler's method.
        switch: steps that start below this time take eta = 0; 0 means none.
        noise_fn: Gaussian noise like its argument.

    Raises:
        ValueError: as for `euler`, or eta or switch outside [0, 1].
    """
    for name, value in {"eta": eta, "switch": switch}.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value:g}: expected a number from 0 to 1")
    x, steps = start(noise, times)
    for i, (t, r) in enumerate(steps):
        F = velocity(x, t)
        share = 0.0 if t < switch or r == 0 else eta * (1 - old_share(t, r) ** 2) ** 0.5
        kept = x - t * F, x + (1 - t) * F
        x_r = x + (r - t) * F if share == 0 else (1 - r) * kept[0] + r * mixed(kept[1], share, noise_fn)
        x = stepped(i, t, r, x, F, x_r, report)
    return finish(x)


def old_share(t: float, r: float) -> float:
    """rho, the share of the noise at t that a skipped step to r < t keeps: none at t = 1."""
    return (1 - t) * r / ((1 - r) * t)


def mixed(noise: Tensor, share: float, noise_fn: Callable[[Tensor], Tensor]) -> Tensor:
    """Gaussian noise of which `share` is new."""
    return (1 - share**2) ** 0.5 * noise + share * noise_fn(noise)
