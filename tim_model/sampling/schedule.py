"""Schedules: plain lists of times, steps + 1 of them, strictly decreasing from `start` to `end`.

Each schedule is a warp u -> g(u) of the unit interval with g(0) = 0 and g(1) = 1, applied to evenly spaced u and
scaled to [end, start]. Any strictly decreasing list is a valid TiM sampler (arXiv 2509.04394, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from statistics import NormalDist

import torch
from torch import Tensor


def uniform(u: float) -> float:
    """Equal steps, the released schedule."""
    return u


def shifted(u: float, shift: float = 3.0) -> float:
    """Time shift of Stable Diffusion 3 (arXiv 2403.03206, eq. 23): more steps near the noise for shift > 1."""
    return shift * u / (1 + (shift - 1) * u)


def cosine(u: float) -> float:
    """Short steps at both ends, the longest in the middle."""
    return math.sin(math.pi / 2 * u) ** 2


def quadratic(u: float) -> float:
    """Short steps near the data."""
    return u * u


def logit_normal(u: float, mean: float = 0.0, std: float = 1.0) -> float:
    """Quantiles of sigmoid(Normal(mean, std)): steps as dense as the training times of the logit-normal density."""
    if u in (0.0, 1.0):
        return u
    z = NormalDist(mean, std).inv_cdf(u)
    small = math.exp(-abs(z))  # cannot overflow
    return (small if z < 0 else 1.0) / (1 + small)


SCHEDULES: dict[str, Callable[..., float]] = {
    "uniform": uniform, "shifted": shifted, "cosine": cosine, "quadratic": quadratic, "logit_normal": logit_normal,
}  # fmt: skip


def make_times(kind: str, steps: int, start: float = 1.0, end: float = 0.0, **options: float) -> list[float]:
    """The `steps` + 1 times of a schedule, from `start` down to `end`, both in [0, 1].

    Args:
        kind: a name in `SCHEDULES`.
        options: `shift` (> 0) of "shifted"; `mean` and `std` (> 0) of "logit_normal".

    Raises:
        ValueError: unknown kind, steps < 1, not 0 <= end < start <= 1, or more steps than floats can distinguish.
    """
    if kind not in SCHEDULES:
        raise ValueError(f"schedule {kind!r}: expected one of {', '.join(SCHEDULES)}")
    if steps < 1 or steps != int(steps):
        raise ValueError(f"steps={steps}: expected a whole number from 1")
    if not 0 <= end < start <= 1:
        raise ValueError(f"start={start:g} and end={end:g}: expected 1 >= start > end >= 0")
    for name in ("shift", "std"):
        if not 0 < options.get(name, 1.0) < math.inf:
            raise ValueError(f"{name}={options[name]}: expected a number above 0, and finite")
    if not math.isfinite(options.get("mean", 0.0)):
        raise ValueError(f"mean={options['mean']}: expected a finite number")
    try:
        warp = partial(SCHEDULES[kind], **options)
        inner = [end + (start - end) * warp(i / steps) for i in range(int(steps) - 1, 0, -1)]
    except TypeError:
        raise ValueError(f"schedule {kind!r} has no option among {', '.join(options)}") from None
    try:
        return check_times([float(start), *inner, float(end)])
    except ValueError as error:
        stated = "".join(f", {name}={value:g}" for name, value in options.items())
        advice = f"take fewer steps{' or a milder ' if options else ''}{' or '.join(options)}"
        raise ValueError(f"schedule {kind!r} with steps={steps}{stated}: {error}; {advice}") from None


def parse_times(text: str) -> list[float]:
    """Times written as "1, 0.6, 0.25, 0" (commas, semicolons or spaces): any strictly decreasing list in [0, 1].

    Raises:
        ValueError: not numbers, fewer than two, outside [0, 1], or not strictly decreasing.
    """
    words = text.replace(",", " ").replace(";", " ").split()
    try:
        times = [float(word) for word in words]
    except ValueError:
        raise ValueError(f'times {text!r}: expected numbers such as "1, 0.6, 0.25, 0"') from None
    return check_times(times)


def check_times(times: list[float], highest: float = 1.0) -> list[float]:
    """`times` unchanged if they are two or more, strictly decreasing and within [0, highest]; else ValueError."""
    if len(times) < 2:
        raise ValueError(f"times {times}: expected at least two, where sampling starts and where it ends")
    for t, r in pairwise(times):
        if not r < t:
            raise ValueError(f"times fall from {t:g} to {r:g}: expected strictly decreasing numbers, noise first")
    if not 0 <= times[-1] < times[0] <= highest:
        raise ValueError(f"times run from {times[0]:g} to {times[-1]:g}: expected numbers between {highest:g} and 0")
    return times


def next_times(t: Tensor, schedule: Tensor) -> Tensor:
    """The times r (B,) that follow t (B,) in a decreasing schedule (n,), without leaving the device.

    That is the entry after the last one equal to t, for a t between entries the highest one below, and t itself where
    nothing lower follows.
    """
    schedule = schedule.to(t)
    equal = (schedule - t[:, None]).abs() <= 1e-6 * schedule.abs()
    position = (equal * torch.arange(1, len(schedule) + 1, device=t.device)).amax(dim=1)  # 0 where none is equal
    following = schedule[position.clamp(max=len(schedule) - 1)]
    below = torch.where(schedule < t[:, None], schedule, -1).amax(dim=1)
    r = torch.where(position > 0, following, below)
    return torch.where((r >= 0) & (r < t), r, t)
