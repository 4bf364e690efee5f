"""Exact transitions for data whose elements are Normal(mean, std²): everything is known in closed form.

Noise keeps its place along the marginal path, so the flow map only shifts and scales:
x_r = alpha_r m + sqrt(var_r / var_t) (x_t - alpha_t m) with var = alpha² std² + sigma². std = 0 is a point mass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tim_model import TRANSPORTS


def vp_ratio(t: Tensor) -> Tensor:
    return (19.9 * t**2 / 2 + 0.1 * t).expm1().sqrt()


def vp_F(x_t: Tensor, x_r: Tensor, t: Tensor, r: Tensor) -> Tensor:
    b_t, b_r = vp_ratio(t), vp_ratio(r)
    return ((b_r**2 + 1).sqrt() * x_r - (b_t**2 + 1).sqrt() * x_t) / (b_r - b_t)


# F(x_t, t, r) of the transition from x_t to x_r, from the paper's definitions
F_OF_TRANSITION = {
    "ot_fm": lambda x_t, x_r, t, r: (x_t - x_r) / (t - r),
    "trigflow": lambda x_t, x_r, t, r: ((t - r).cos() * x_t - x_r) / (t - r).sin(),
    "vp": vp_F,
    "ve": lambda x_t, x_r, t, r: (x_r - x_t) / (t - r),
}
TIME_OF_C_NOISE = {
    "ot_fm": lambda c: c,
    "trigflow": lambda c: c,
    "vp": lambda c: c / 999,
    "ve": lambda c: 2 * c.exp(),
}


@dataclass(frozen=True)
class GaussianData:
    transport: str
    mean: float = 0.4
    std: float = 0.7

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """alpha, sigma and the standard deviation of x_t."""
        alpha, sigma, _, _ = TRANSPORTS[self.transport].interpolant(t)
        return alpha, sigma, (alpha**2 * self.std**2 + sigma**2).sqrt()

    def flow(self, x_t: Tensor, t: Tensor, r: Tensor) -> Tensor:
        """The state at r on the probability-flow path through x_t at t."""
        (alpha_t, _, std_t), (alpha_r, _, std_r) = self.coefficients(t), self.coefficients(r)
        return alpha_r * self.mean + std_r / std_t * (x_t - alpha_t * self.mean)

    def F(self, x_t: Tensor, t: Tensor, r: Tensor) -> Tensor:
        """The average velocity (or its like on other paths) from t to r < t."""
        return F_OF_TRANSITION[self.transport](x_t, self.flow(x_t, t, r), t, r)

    def expected(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Data, noise and velocity of the path, each expected given x_t."""
        alpha, sigma, std = self.coefficients(t)
        _, _, d_alpha, d_sigma = TRANSPORTS[self.transport].interpolant(t)
        deviation = (x_t - alpha * self.mean) / std**2
        x, noise = self.mean + alpha * self.std**2 * deviation, sigma * deviation
        return x, noise, d_alpha * x + d_sigma * noise

    def net(self, x: Tensor, c_t: Tensor, c_r: Tensor, context: object) -> Tensor:
        """A perfectly trained network, for `sample`; with r = t it predicts the velocity (ot_fm)."""
        t, r = (TIME_OF_C_NOISE[self.transport](c).view(-1, 1, 1, 1) for c in (c_t, c_r))
        if torch.equal(t, r):
            return self.expected(x, t)[2]
        return self.F(x, t, r)
