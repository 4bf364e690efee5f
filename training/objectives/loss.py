"""The parts of an objective: the target of a transport, the network's prediction, their distance and its weight.

Symbols and equations: arXiv 2509.04394, section 3, as released. All times here are transport times (B,); the network
receives c_noise of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tim_model.sampling.transport import Transport, per_sample

from .guidance import Guidance
from .repa import projection_loss
from .sample import Network, Sample


@dataclass(frozen=True)
class LossOutput:
    """What an objective computes for B samples; the three losses carry a gradient."""

    target: Tensor  # like x
    dF_dt: Tensor  # like x, 0 where the objective needs none
    time_weight: Tensor  # (B,)
    denoising_loss: Tensor  # (B,)
    weighted_loss: Tensor  # scalar, the total loss
    proj_loss: Tensor  # scalar, 0 without h_target
    finite: Tensor  # (B,), False where the losses hide that the network or its target is not finite


def transition_target(path: Transport, sample: Sample, dF_dt: Tensor, guidance: Guidance | None = None) -> Tensor:
    """The training target of F(x_t, t, r), like x.

    The instantaneous target, that of r = t, is a summand of every transport's target (v_t, p, z or -z), so that
    guidance can simply be added.
    """
    target = target_on(path, sample, dF_dt)
    if guidance is None:
        return target
    instantaneous = target_on(path, sample.at_rest(), torch.zeros_like(sample.x))
    return target + guidance.shift(path, sample, instantaneous)


def target_on(path: Transport, sample: Sample, dF_dt: Tensor) -> Tensor:
    """The target of the transport alone, like x."""
    x, noise = sample.x, sample.noise
    x_t, v_t = path.interpolate(x, noise, sample.t)
    return path.target(x_t, v_t, x, noise, per_sample(sample.t, x), per_sample(sample.r, x), dF_dt)


def predict(net: Network, path: Transport, sample: Sample) -> tuple[Tensor, Tensor]:
    """The pass with gradient: F like x, and the REPA loss of the batch, 0 without `h_target`."""
    x_t = path.interpolate(sample.x, sample.noise, sample.t)[0]
    c_t, c_r = path.c_noise(sample.t), path.c_noise(sample.r)
    if sample.h_target is None:
        return net(x_t, c_t, c_r, sample.context), x_t.new_zeros(())
    F_pred, h = net(x_t, c_t, c_r, sample.context, return_projection=True)
    return F_pred, projection_loss(h, sample.h_target).mean()


def denoising_loss(F_pred: Tensor, target: Tensor, cosine: bool, mask: Tensor | None = None) -> Tensor:
    """Mean squared error per sample (B,), with `cosine` plus 1 - cosine similarity over channels.

    With a `mask` (B,1,H,W) both are means over the positions weighted by it, so that a constant mask changes nothing.

    A sample whose target is not finite gets its own prediction as target: no loss, and no gradient. A network whose
    own output is not finite is not hidden that way: its gradient is not finite either.
    """
    finite = target.flatten(1).isfinite().all(dim=1)
    target = torch.where(per_sample(finite, target), target, F_pred.detach())
    loss = guarded(position_mean((F_pred - target).square(), mask))
    if cosine:
        loss = loss + guarded(position_mean(1 - F.cosine_similarity(F_pred, target, dim=1).unsqueeze(1), mask))
    return loss


def position_mean(error: Tensor, mask: Tensor | None) -> Tensor:
    """The mean (B,) of errors (B,C,H,W), with the positions weighted by `mask` (B,1,H,W); 0 for a mask of zeros."""
    if mask is None:
        return error.flatten(1).mean(dim=1)
    total = mask.flatten(1).sum(dim=1).clamp(min=torch.finfo(mask.dtype).tiny)
    return (error.mean(dim=1, keepdim=True) * mask).flatten(1).sum(dim=1) / total


def batch_mean(loss: Tensor, weight: Tensor | None) -> Tensor:
    """The mean, a scalar, of losses (B,) times their weights (B,), 1 where None."""
    return (loss if weight is None else loss * weight).mean()


def finite_rows(F_pred: Tensor, target: Tensor) -> Tensor:
    """Which samples (B,) have a finite squared error, before `denoising_loss` replaces it."""
    return (F_pred.detach() - target.detach()).square().flatten(1).mean(dim=1).isfinite()


def guarded(loss: Tensor) -> Tensor:
    """`loss` with finite values in place of NaN and infinities, as released."""
    return torch.nan_to_num(loss, nan=0.0, posinf=1e5, neginf=-1e5)


def time_weight(path: Transport, t: Tensor, r: Tensor) -> Tensor:
    """1 / sqrt(tan t - tan r + sigma_d) (B,), and 1 in the diffusion rows.

    The tangent is a noise-to-signal ratio. edm and ve, whose t is one and passes the poles of tan, take t as it is.
    """
    interval = t - r if path.t_is_noise_ratio else t.tan() - r.tan()
    return torch.where(t == r, 1.0, (interval + path.sigma_d).rsqrt())
