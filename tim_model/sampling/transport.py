"""The five transports: paths between data and noise, the training target on them and the exact step along them.

Symbols as in the paper: x_t = alpha_t x + sigma_t noise, v_t = d_alpha x + d_sigma noise, F the network's output and
dF_dt its total derivative along the path with r fixed. Times are tensors that broadcast against x, (B,1,1,1); the
formulas hold in any floating dtype. Sources: arXiv 2509.04394, section 3 and appendix, as released.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

Coefficients = tuple[Tensor, Tensor, Tensor, Tensor]


def per_sample(t: Tensor, x: Tensor) -> Tensor:
    """Values (B,) shaped to broadcast over x (B,...)."""
    return t.view(-1, *(1,) * (x.ndim - 1))


def exp(z: float) -> float:
    return math.exp(min(z, 700.0))  # beyond it float64 overflows; times are clamped far below


class Transport:
    """What every transport has: its name, its range of times, how they are drawn for training, and the functions below.

    `T_max` and `T_min` bound the times: noise sits at T_max, data at T_min. Training draws its times as `time_of` of
    Normal(P_mean, P_std), or of uniform numbers where those are None. `sigma_d` enters the weight of a transition;
    `t_is_noise_ratio` says that t itself is a ratio of noise to signal.
    """

    name: ClassVar[str]
    T_max: ClassVar[float]
    T_min: ClassVar[float]
    P_mean: ClassVar[float | None] = None
    P_std: ClassVar[float | None] = None
    sigma_d: float = 1.0
    t_is_noise_ratio: ClassVar[bool] = False

    def time_of(self, z: float) -> float:
        """The time that a drawn number stands for, before it is clamped to the range."""
        raise NotImplementedError

    def interpolate(self, x: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The state x_t = alpha x + sigma noise and its velocity v_t, like x (B,...), at times t (B,)."""
        alpha, sigma, d_alpha, d_sigma = self.interpolant(per_sample(t, x))
        return alpha * x + sigma * noise, d_alpha * x + d_sigma * noise

    def interpolant(self, t: Tensor) -> Coefficients:
        """(alpha_t, sigma_t, d_alpha/dt, d_sigma/dt), each like t."""
        raise NotImplementedError

    def c_noise(self, t: Tensor) -> Tensor:
        """What the network receives in place of t (and of r), like t."""
        return t

    def target(self, x_t: Tensor, v_t: Tensor, x: Tensor, noise: Tensor, t: Tensor, r: Tensor, dF_dt: Tensor) -> Tensor:
        """The value that F(x_t, t, r) is trained towards, like x."""
        raise NotImplementedError

    def step(self, x_t: Tensor, t: Tensor, r: Tensor, F: Tensor) -> Tensor:
        """The state at r that follows from the state x_t at t and the network's output F, like x_t."""
        raise NotImplementedError


class OTFM(Transport):
    """Linear path of flow matching; the transport of every published checkpoint."""

    name = "ot_fm"
    T_max, T_min = 1.0, 0.0
    P_mean, P_std = 0.0, 1.6  # class models were trained with -0.4 and 1.0

    def time_of(self, z):
        return 1 / (1 + exp(-z))

    def interpolant(self, t):
        return 1 - t, t, -t.new_ones(t.shape), t.new_ones(t.shape)

    def target(self, x_t, v_t, x, noise, t, r, dF_dt):
        return v_t - (t - r) * dF_dt

    def step(self, x_t, t, r, F):
        return x_t - (t - r) * F


class TrigFlow(Transport):
    """Path on the circle: alpha = cos t, sigma = sin t."""

    name = "trigflow"
    T_max, T_min = 1.57, 0.0
    P_mean, P_std = -1.0, 1.6
    sigma_d = 0.5

    def time_of(self, z):
        return math.atan(exp(z))

    def interpolant(self, t):
        return t.cos(), t.sin(), -t.sin(), t.cos()

    def target(self, x_t, v_t, x, noise, t, r, dF_dt):
        return v_t - (t - r).tan() * (x_t + dF_dt)

    def step(self, x_t, t, r, F):
        return (t - r).cos() * x_t - (t - r).sin() * F


@dataclass(frozen=True)
class EDM(Transport):
    """Preconditioned variance-exploding path of EDM, scaled to unit variance.

    As released, `target` and `step` carry sigma_d**3 in places where an exact transition would not: with sigma_d =
    0.5 and F the instantaneous target, a step ends 5.9% off the path on the golden inputs, and more for pure data at
    large t. Kept, since it is what the released code trains and samples with.
    """

    name = "edm"
    sigma_d: float = 0.5
    T_max, T_min = 80.0, 0.01
    P_mean, P_std = -1.2, 1.2
    t_is_noise_ratio = True

    def time_of(self, z):
        return exp(z)

    def interpolant(self, t):
        s = (t**2 + self.sigma_d**2).sqrt()
        return 1 / s, t / s, -t / s**3, self.sigma_d**2 / s**3

    def c_noise(self, t):
        return t.log() / 4

    def target(self, x_t, v_t, x, noise, t, r, dF_dt):
        d2, d3 = self.sigma_d**2, self.sigma_d**3
        s = (t**2 + d2).sqrt()
        instantaneous = t / (self.sigma_d * s) * x - self.sigma_d / s * noise
        d_instantaneous = (1 / (self.sigma_d * s) - t**2 / (self.sigma_d * s**3)) * x + self.sigma_d * t / s**3 * noise
        weight = (t - r) * (d2 + t**2) * (d3 + t**2)
        weight = weight / (2 * t * (r - t) * (d2 + t**2) - t * (r - t) * (d3 + t**2) + (d2 + t**2) * (d3 + t**2))
        return instantaneous + weight * (d_instantaneous - dF_dt)

    def step(self, x_t, t, r, F):
        d2, d3 = self.sigma_d**2, self.sigma_d**3
        ratio = ((t**2 + d2) / (r**2 + d2)).sqrt() / (d3 + t**2)
        return (d3 + t * r) * ratio * x_t + d2 * (t - r) * ratio * F


@dataclass(frozen=True)
class VP(Transport):
    """Variance-preserving path of DDPM in continuous time; F is the noise."""

    name = "vp"
    beta_min: float = 0.1
    beta_d: float = 19.9
    T_max, T_min = 1.0, 1e-5

    def time_of(self, z):
        return self.T_min + (self.T_max - self.T_min) * z

    def _b(self, t: Tensor) -> Tensor:
        """Noise-to-signal ratio b(t) = sigma_t / alpha_t."""
        return (self.beta_d * t**2 / 2 + self.beta_min * t).expm1().sqrt()

    def interpolant(self, t):
        b, rate = self._b(t), (self.beta_d * t + self.beta_min) / 2
        s = (b**2 + 1).sqrt()
        return 1 / s, b / s, -rate / s, rate / (b * s)

    def c_noise(self, t):
        return 999 * t

    def target(self, x_t, v_t, x, noise, t, r, dF_dt):
        b = self._b(t)
        d_b = (self.beta_d * t + self.beta_min) * (b**2 + 1) / (2 * b)
        return noise - dF_dt * (b - self._b(r)) / d_b

    def step(self, x_t, t, r, F):
        b_t, b_r = self._b(t), self._b(r)
        return ((b_t**2 + 1) / (b_r**2 + 1)).sqrt() * x_t + (b_r - b_t) / (b_r**2 + 1).sqrt() * F


class VE(Transport):
    """Variance-exploding path: x_t = x + t noise; F is minus the noise."""

    name = "ve"
    T_max, T_min = 100.0, 0.02
    t_is_noise_ratio = True

    def time_of(self, z):
        return self.T_min * (self.T_max / self.T_min) ** z

    def interpolant(self, t):
        return t.new_ones(t.shape), t, t.new_zeros(t.shape), t.new_ones(t.shape)

    def c_noise(self, t):
        return t.log() - math.log(2)

    def target(self, x_t, v_t, x, noise, t, r, dF_dt):
        return (r - t) * dF_dt - noise

    def step(self, x_t, t, r, F):
        return x_t + (t - r) * F


TRANSPORTS: dict[str, Transport] = {path.name: path for path in (OTFM(), TrigFlow(), EDM(), VP(), VE())}


def get_transport(name: str) -> Transport:
    """The transport of that name; ValueError names the known ones."""
    if name not in TRANSPORTS:
        raise ValueError(f"transport {name!r}: expected one of {', '.join(TRANSPORTS)}")
    return TRANSPORTS[name]
