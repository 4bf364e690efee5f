"""Velocities whose exact solutions are known."""

from __future__ import annotations

import torch
from torch import Tensor

MEANS = torch.tensor([[1.5, -0.5], [-1.0, 1.0], [0.2, -1.6]])
STD = 0.25
UNIFORM = {n: [1 - i / n for i in range(n + 1)] for n in (4, 8, 16, 32)}
SHIFTED = {n: [3 * t / (1 + 2 * t) for t in times] for n, times in UNIFORM.items()}
START = torch.randn(64, 2, 1, 1, generator=torch.Generator().manual_seed(0))


def gaussian(x: Tensor, t: float, mean: float = 0.4, std: float = 0.7) -> Tensor:
    """The velocity for data of Normal(mean, std²) elements."""
    variance = ((1 - t) * std) ** 2 + t**2
    return -mean + (t - (1 - t) * std**2) / variance * (x - (1 - t) * mean)


def gaussian_end(x: Tensor, mean: float = 0.4, std: float = 0.7) -> Tensor:
    """Where the state x at t = 1 arrives at t = 0."""
    return mean + std * x


def mixture(x: Tensor, t: float) -> Tensor:
    """The velocity for a mixture of three Gaussians in the plane; x is (B,2,1,1)."""
    points, variance = x.flatten(1), ((1 - t) * STD) ** 2 + t**2
    offsets = points[:, None] - (1 - t) * MEANS
    shares = (-(offsets**2).sum(-1) / (2 * variance)).softmax(-1)[..., None]
    return (shares * (-MEANS + (t - (1 - t) * STD**2) / variance * offsets)).sum(1).view_as(x)


def runge_kutta(velocity, x: Tensor, steps: int = 250) -> Tensor:
    """The end of the path from t = 1, by RK4 in float64; the last step stays above t = 0."""
    x, h = x.double(), -1 / steps
    for i in range(steps):
        t = 1 - i / steps
        k1 = velocity(x, t)
        k2 = velocity(x + h / 2 * k1, t + h / 2)
        k3 = velocity(x + h / 2 * k2, t + h / 2)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + velocity(x + h * k3, max(t + h, 1e-6)))
    return x


def error(x: Tensor, reference: Tensor) -> float:
    """The mean over images of the relative distance."""
    difference, size = (x - reference).flatten(1).norm(dim=1), reference.flatten(1).norm(dim=1)
    return float((difference / size).mean())
