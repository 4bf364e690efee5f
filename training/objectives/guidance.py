"""Targets with guidance inside, which the network learns, so that sampling needs no second pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tim_model.sampling.transport import Transport

from .sample import Network, Sample


@dataclass(frozen=True)
class Guidance:
    """Inside w_start <= t <= w_end the instantaneous target becomes a mixture (arXiv 2509.04394, as released).

    It is w_gt times itself + w_cond F_net(full context) + (1 - w_gt - w_cond) F_net(null context), both at r = t.
    `net` is the EMA network; the numbers are those of `ObjectiveConfig`.
    """

    net: Network
    w_gt: float
    w_cond: float
    w_start: float
    w_end: float

    @torch.no_grad()
    def shift(self, path: Transport, sample: Sample, instantaneous: Tensor) -> Tensor:
        """The change of the target by the mixture, like x; the network is called only for rows inside the window.

        Args:
            sample: with `full_context` and `null_context`.
            instantaneous: like x, the target at r = t.
        """
        shift = torch.zeros_like(instantaneous)
        rows = sample.rows(lambda t, r: (t >= self.w_start) & (t <= self.w_end))
        if len(rows):
            placed = sample.placed(rows)
            inside, target = sample.at(rows), instantaneous[placed]
            x_t, c_t = path.interpolate(inside.x, inside.noise, inside.t)[0], path.c_noise(inside.t)
            F_cond = self.net(x_t, c_t, c_t, inside.full_context)
            F_null = self.net(x_t, c_t, c_t, inside.null_context)
            mixture = self.w_gt * target + self.w_cond * F_cond + (1 - self.w_gt - self.w_cond) * F_null
            shift[placed] = mixture.to(target.dtype) - target
        return shift


@dataclass(frozen=True)
class Teacher:
    """A frozen network whose guided velocity is the target of rows with r = t (arXiv 2507.16884, two-stage training).

    `cfg` is the weight of its condition, 1 for no guidance; a row without condition learns the velocity without one.
    """

    net: Network
    cfg: float

    @torch.no_grad()
    def velocity(self, path: Transport, sample: Sample) -> Tensor:
        """F_net(null) + cfg (F_net(context) - F_net(null)) at r = t, like x.

        Args:
            sample: with `null_context` where `cfg` is not 1.
        """
        x_t, c_t = path.interpolate(sample.x, sample.noise, sample.t)[0], path.c_noise(sample.t)
        F_cond = self.net(x_t, c_t, c_t, sample.context)
        if self.cfg == 1:
            return F_cond.to(x_t.dtype)
        F_null = self.net(x_t, c_t, c_t, sample.null_context)
        return torch.lerp(F_null, F_cond, self.cfg).to(x_t.dtype)
