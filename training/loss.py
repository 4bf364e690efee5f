"""The TiM objective: the network is trained towards transitions that its own derivative makes consistent.

Symbols and equations: arXiv 2509.04394, section 3, as released. All times here are transport times (B,); the network
receives c_noise of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tim_model.transport import Transport, get_transport

from .derivative import Network, mix, per_sample, total_derivative
from .repa import projection_loss

ADAPTIVE_EPS = 1e-5
SIGMA_D = {"ot_fm": 1.0, "trigflow": 0.5, "edm": 0.5, "vp": 1.0, "ve": 1.0}


@dataclass(frozen=True)
class LossOutput:
    """What an objective computes for B samples; the three losses carry a gradient."""

    target: Tensor  # like x
    dF_dt: Tensor  # like x, 0 where the objective needs none
    time_weight: Tensor  # (B,)
    denoising_loss: Tensor  # (B,)
    weighted_loss: Tensor  # scalar, what is minimized
    proj_loss: Tensor  # scalar, 0 without h_target
    finite: Tensor  # (B,), False where the losses hide that the network or its target is not finite


@dataclass(frozen=True)
class Guidance:
    """The guidance-enhanced target: inside w_start <= t <= w_end the instantaneous target becomes a mixture.

    It is w_gt times itself + w_cond F_net(context) + (1 - w_gt - w_cond) F_net(null_context), both at r = t. The
    defaults are those of the released class models. `net` is the EMA network, `context` (B,...) has the labels or
    features before dropout, `null_context` those of "no class" or the empty caption.
    """

    net: Network
    context: Tensor
    null_context: Tensor
    w_gt: float = 1.0
    w_cond: float = 0.75
    w_start: float = 0.3
    w_end: float = 0.8

    def at(self, rows: Tensor) -> Guidance:
        """Of some rows (n,) of the batch alone."""
        return replace(self, context=self.context[rows], null_context=self.null_context[rows])

    @torch.no_grad()
    def shift(self, path: Transport, x_t: Tensor, t: Tensor, instantaneous: Tensor) -> Tensor:
        """What the mixture adds to the target, like x_t; the network sees only the rows inside the window."""
        shift = torch.zeros_like(x_t)
        rows = ((t >= self.w_start) & (t <= self.w_end)).nonzero().flatten()
        if len(rows):
            c_t = path.c_noise(t[rows])
            F_cond = self.net(x_t[rows], c_t, c_t, self.context[rows])
            F_null = self.net(x_t[rows], c_t, c_t, self.null_context[rows])
            mixture = self.w_gt * instantaneous[rows] + self.w_cond * F_cond + (1 - self.w_gt - self.w_cond) * F_null
            shift[rows] = mixture.to(x_t.dtype) - instantaneous[rows]
        return shift


def transition_loss(
    net: Network,
    x: Tensor,
    noise: Tensor,
    t: Tensor,
    r: Tensor,
    context: Tensor,
    transport: str = "ot_fm",
    derivative: str = "dde",
    epsilon: float = 0.005,
    cosine: bool = True,
    h_target: Tensor | None = None,
    *,
    batched: bool = True,
    guidance: Guidance | None = None,
) -> LossOutput:
    """The released loss of clean latents x and noise, both (B,C,H,W), at times t >= r (B,); t = r is diffusion.

    Args:
        net: a TiM network, or any F(x_t, c_noise(t), c_noise(r), context). It must not draw random numbers, else the
            passes disagree: TiM has no dropout, and labels or captions are dropped before they come here.
        context: text features (B,L,context_dim) or labels (B,).
        transport, derivative: names in `TRANSPORTS` and `DERIVATIVES`.
        epsilon: half the time between the two passes of "dde".
        cosine: adds 1 - cosine similarity over channels, mean over positions, to the squared error.
        h_target: features (B,N,z_dim) for the REPA head.
        batched: the two passes of "dde" in one call of the network, which takes more memory.
        guidance: makes the target a guided one.

    Raises:
        ValueError: shapes that do not fit, r > t, or an unknown name.
    """
    check_batch(x, noise, t, r)
    path = get_transport(transport)
    dF_dt = total_derivative(net, path, x, noise, t, r, context, derivative, epsilon, batched)
    target = make_target(path, x, noise, t, r, dF_dt, guidance)
    F_pred, proj_loss = predict(net, path, mix(path, x, noise, t)[0], t, r, context, h_target)
    loss = denoising_loss(F_pred, target, cosine)
    weight = time_weight(t, r, transport)
    weighted = weight * loss / (loss.detach() + ADAPTIVE_EPS)
    return LossOutput(target, dF_dt, weight, loss, weighted.mean(), proj_loss, finite_rows(F_pred, target))


def make_target(
    path: Transport, x: Tensor, noise: Tensor, t: Tensor, r: Tensor, dF_dt: Tensor, guidance: Guidance | None = None
) -> Tensor:
    """What F(x_t, t, r) is trained towards, like x.

    The instantaneous target, that of r = t, enters every transport's target as a plain summand (v_t, p, z or -z), so
    that guidance may simply be added.
    """
    x_t, v_t = mix(path, x, noise, t)
    times = per_sample(t, x), per_sample(r, x)
    target = path.target(x_t, v_t, x, noise, *times, dF_dt)
    if guidance is None:
        return target
    instantaneous = path.target(x_t, v_t, x, noise, times[0], times[0], torch.zeros_like(x))
    return target + guidance.shift(path, x_t, t, instantaneous)


def predict(
    net: Network, path: Transport, x_t: Tensor, t: Tensor, r: Tensor, context: Tensor, h_target: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The pass with gradient: F like x_t, and the REPA loss of the batch, 0 without `h_target`."""
    c_t, c_r = path.c_noise(t), path.c_noise(r)
    if h_target is None:
        return net(x_t, c_t, c_r, context), x_t.new_zeros(())
    F_pred, h = net(x_t, c_t, c_r, context, return_projection=True)
    return F_pred, projection_loss(h, h_target).mean()


def denoising_loss(F_pred: Tensor, target: Tensor, cosine: bool) -> Tensor:
    """Mean squared error per sample (B,), with `cosine` plus 1 - cosine similarity over channels.

    A sample whose target is not finite gets its own prediction as target: no loss, and no gradient. A network whose
    own output is not finite is not hidden that way: its gradient is not finite either.
    """
    finite = target.flatten(1).isfinite().all(dim=1)
    target = torch.where(per_sample(finite, target), target, F_pred.detach())
    loss = guarded((F_pred - target).square().flatten(1).mean(dim=1))
    if cosine:
        loss = loss + guarded((1 - F.cosine_similarity(F_pred, target, dim=1)).flatten(1).mean(dim=1))
    return loss


def finite_rows(F_pred: Tensor, target: Tensor) -> Tensor:
    """Which samples (B,) have a finite squared error, whatever `denoising_loss` puts in its place."""
    return (F_pred.detach() - target.detach()).square().flatten(1).mean(dim=1).isfinite()


def guarded(loss: Tensor) -> Tensor:
    """`loss` with finite values in place of NaN and infinities, as released."""
    return torch.nan_to_num(loss, nan=0.0, posinf=1e5, neginf=-1e5)


def time_weight(t: Tensor, r: Tensor, transport: str) -> Tensor:
    """1 / sqrt(tan t - tan r + sigma_d) (B,), and 1 in the diffusion rows.

    The tangent is a noise-to-signal ratio. edm and ve, whose t is one and passes the poles of tan, take t as it is.
    """
    steep = get_transport(transport).T_max < math.pi / 2
    interval = t.tan() - r.tan() if steep else t - r
    return torch.where(t == r, 1.0, (interval + SIGMA_D[transport]).rsqrt())


def check_batch(x: Tensor, noise: Tensor, t: Tensor, r: Tensor) -> None:
    """Raise ValueError, in one line, unless shapes agree and r <= t."""
    if x.ndim != 4 or noise.shape != x.shape:
        raise ValueError(f"x and noise have shapes {tuple(x.shape)} and {tuple(noise.shape)}: expected (B, C, H, W)")
    if t.shape != x.shape[:1] or r.shape != x.shape[:1]:
        raise ValueError(
            f"t and r have shapes {tuple(t.shape)} and {tuple(r.shape)}: expected one time per sample, ({len(x)},)"
        )
    if bool((r > t).any()):
        raise ValueError(f"t={t.tolist()}, r={r.tolist()}: expected r <= t in every sample")
