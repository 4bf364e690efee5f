"""The any-step sampler: one network call (two with guidance) moves the state exactly from each time to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..network.run import network_run, without_options
from ..network.tim import TiM
from .schedule import check_times
from .transport import get_transport

Interval = tuple[float, float]


class Condition(NamedTuple):
    """Conditioning and null conditioning of a batch: text features (B,L,D) or labels (B,), of one shape."""

    context: Tensor
    null_context: Tensor | None  # None where nothing is guided


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


Field = Callable[[Tensor, Tensor, Tensor, bool], Tensor]  # (x, t, r, whether the step is guided) -> F like x


def guided_field(net: Callable, context: Tensor, null_context: Tensor | None, cfg: float) -> Field:
    """Classifier-free guidance: the null prediction plus cfg times the difference to the conditional one.

    A TiM network gets both halves as one batch, which is faster and rounds as hosts do, and reads each condition once
    for all steps; any other function gets two calls. Labels are checked at the first call.
    """
    run = network_run(net)
    is_batched = isinstance(without_options(net), TiM) and null_context is not None
    is_batched = is_batched and context.shape == null_context.shape
    both = torch.cat([context, null_context]) if is_batched else None

    def field(x: Tensor, t: Tensor, r: Tensor, is_guided: bool) -> Tensor:
        if not is_guided:
            return run(x, t, r, context)
        if both is None:
            F_cond, F_null = run(x, t, r, context), run(x, t, r, null_context)
        else:
            # one time for all samples stays one, which networks are faster with
            times = (t, r) if len(t) == 1 else (torch.cat([t, t]), torch.cat([r, r]))
            F_cond, F_null = run(torch.cat([x, x]), *times, both).chunk(2)
        return F_null + cfg * (F_cond - F_null)

    return field


def noisy_step(x_t: Tensor, t: float, r: float, F: Tensor, stochasticity: float, noise: Tensor) -> Tensor:
    """The stochastic transition of ot_fm: part of the predicted noise is replaced by fresh `noise`, like x_t."""
    z_hat = x_t + (1 - t) * F
    x_r = x_t - (t - r) * F - stochasticity * (t - r) * z_hat
    return x_r + (2 * stochasticity * t * (t - r)) ** 0.5 * noise


def restarted(x_t: Tensor, t: float, r: float, F: Tensor, restart: float, noise: Tensor) -> Tensor:
    """The restart of ot_fm: the transition to q = (1 - restart) r, and as much fresh `noise` as leads back to r."""
    q = (1 - restart) * r
    kept = (1 - r) / (1 - q)
    return kept * (x_t - (t - q) * F) + (r**2 - (kept * q) ** 2) ** 0.5 * noise


@dataclass(frozen=True)
class Sampling:
    """How `sample` takes its steps.

    Attributes:
        cfg: guidance scale; up to 1 means none.
        guidance_interval: absolute times (low, high) between which steps are guided, both ends strict: the default
            leaves the step at t = 1 unguided, as released; (-inf, inf) guides every step.
        stochasticity: share of noise renewed on the way (ot_fm only), 0.2 in the released class presets.
        velocity: give the network r = t, which makes it an ordinary flow-matching model under Euler steps.
        transport: a name in `TRANSPORTS`.
        restart: share by which each step goes past r (ot_fm only): the transition leads to (1 - restart) r, and fresh
            noise back to r. 0 is the transition alone, 1 goes to the image each time.
        redraw: go from each time t to the image x_t - t F and back to r with fresh noise alone (ot_fm only), in
            place of `stochasticity` and `restart`; with velocities that serves inpainting.

    Raises:
        ValueError: an unknown transport, stochasticity or restarts that it does not have, or both of them.
    """

    cfg: float = 1.0
    guidance_interval: Interval = (0.0, 1.0)
    stochasticity: float = 0.0
    velocity: bool = False
    transport: str = "ot_fm"
    restart: float = 0.0
    redraw: bool = False

    def __post_init__(self):
        get_transport(self.transport)
        if self.stochasticity < 0 or (self.stochasticity and self.transport != "ot_fm"):
            raise ValueError(
                f"stochasticity={self.stochasticity} on {self.transport}: expected 0, or more than 0 on ot_fm"
            )
        if not 0 <= self.restart <= 1:
            raise ValueError(f"restart={self.restart:g}: expected a number from 0 to 1")
        if (self.restart or self.redraw) and self.transport != "ot_fm":
            raise ValueError(f"restarts on {self.transport}: expected ot_fm, which they go back on")
        if self.restart and self.stochasticity:
            both = f"restart={self.restart:g} with stochasticity={self.stochasticity:g}"
            raise ValueError(f"{both}: both renew noise, set one of them to 0")

    def guides(self, t: float) -> bool:
        """Whether a step that starts at t is guided."""
        return is_guided(t, self.cfg, self.guidance_interval)


@torch.no_grad()
def sample(
    net: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    noise: Tensor,
    times: Sequence[float],
    context: Tensor,
    null_context: Tensor | None = None,
    noise_fn: Callable[[Tensor], Tensor] = torch.randn_like,
    callback: Callable[[Step], None] | None = None,
    **settings,
) -> Tensor:
    """Move `noise`, the state at times[0], through all `times`; returns the state at times[-1], at least in float32.

    Args:
        net: a TiM network, also with options bound by `functools.partial`, or any F(x_t (B,C,H,W), t (B,), r (B,),
            context) -> F like x_t.
        times: strictly decreasing, from `make_times`, `parse_times` or your own.
        context, null_context: conditions of the guided and of the null pass; a class network knows its own null label.
        noise_fn: draws the Gaussian noise of a stochastic step, like its argument.
        callback: called after every step.
        settings: of `Sampling`: cfg, guidance_interval, stochasticity, velocity, transport, restart, redraw.

    Raises:
        ValueError: bad times, guidance without a null context, and what `Sampling` refuses.
    """
    how = Sampling(**settings)
    times = check_ends([float(t) for t in times], how.transport)
    predict = predictor(net, context, null_context, how, times)
    x = noise.to(torch.promote_types(noise.dtype, torch.float32))  # the state and its times never in bfloat16
    for i, (t, r) in enumerate(pairwise(times)):
        F = predict(x, t, t if how.velocity else (1 - how.restart) * r if how.restart else r)
        x_r = take_step(x, t, r, F, how, noise_fn)
        if callback is not None:
            callback(Step(i, t, r, x, F, x_r))
        x = x_r
    return x


def predictor(
    net: Callable, context: Tensor, null_context: Tensor | None, how: Sampling, times: Sequence[float]
) -> Callable[[Tensor, float, float | Tensor], Tensor]:
    """The network's F, like x (B,...), of steps from t to r, one time or one for each image (B,); guided where t is.

    A class network knows its null label; errors of `default_null`.
    """
    if null_context is None and any(how.guides(t) for t in times[:-1]):
        null_context = default_null(net, context, how.cfg)
    field, path = guided_field(net, context, null_context, how.cfg), get_transport(how.transport)

    def predict(x: Tensor, t: float, r: float | Tensor) -> Tensor:
        c_t, c_r = (path.c_noise(x.new_zeros(len(x)) + time) for time in (t, r))
        return field(x, c_t, c_r, how.guides(t))

    return predict


def per_image(x: Tensor, values: Tensor) -> Tensor:
    """Values (B,) in the shape that scales the images of x (B,...)."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def take_step(x: Tensor, t: float, r: float, F: Tensor, how: Sampling, noise_fn: Callable[[Tensor], Tensor]) -> Tensor:
    """The state at r that follows from the state x at t and the network's output F, like x."""
    path = get_transport(how.transport)
    if how.redraw and r > path.T_min:
        return (1 - r) * (x - t * F) + r * noise_fn(x)
    if how.restart and not how.redraw and r > path.T_min:
        return restarted(x, t, r, F, how.restart, noise_fn(x))
    if how.stochasticity and not how.redraw and t < path.T_max and r > path.T_min:
        return noisy_step(x, t, r, F, how.stochasticity, noise_fn(x))
    return path.step(x, x.new_tensor(t), x.new_tensor(r), F)


def check_ends(times: Sequence[float], transport: str) -> list[float]:
    """The times; ValueError unless they are in the transport's range."""
    path = get_transport(transport)
    times = check_times(times, path.T_max)
    if not path.c_noise(torch.tensor(times[-1])).isfinite():
        raise ValueError(f"times end at {times[-1]:g}: {transport} expects them to end at {path.T_min:g} or above")
    return times


def default_null(net: Callable, context: Tensor, cfg: float) -> Tensor:
    """The null labels of a class network; ValueError for a network whose null context must be given."""
    num_classes = getattr(getattr(without_options(net), "params", None), "num_classes", None)
    if num_classes is None:
        raise ValueError(f"cfg={cfg} needs null_context: pass the features of the empty or negative prompt, or cfg=1")
    return torch.full_like(context, num_classes)
