"""SADA (arXiv 2507.17135), its step-wise part: some calls are replaced by velocities on the line through the last two.

Everything is decided for each image by itself, so that none depends on its neighbors in a batch: the network is called
where any image needs it, and the others keep their lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sampler import per_image
from .steps import Report, Velocity, dot, finish, start, stepped

RULES = ("paper", "norm", "alternate")
LAST = 3  # steps at the end that are never skipped


@dataclass(frozen=True)
class Skipping:
    """When a call is skipped.

    Args:
        rule: "paper" by the sign of the criterion, "norm" by the relative error of the line at the newest call,
            "alternate" wherever allowed (no criterion, for comparison).
        threshold: of "norm", .01 to .05 are usual.
        longest: skipped steps in a row.

    Raises:
        ValueError: no such rule, or numbers that cannot be.
    """

    rule: str = "paper"
    threshold: float = 0.02
    longest: int = 1

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule {self.rule!r}: expected one of {', '.join(RULES)}")
        if self.threshold < 0 or self.longest < 0:
            raise ValueError(f"threshold={self.threshold:g}, longest={self.longest}: expected 0 or more")


class Line:
    """The three newest velocities of each image and their times, newest first; times (B,) count each image's own."""

    def __init__(self, x: Tensor):
        self.F = [torch.zeros_like(x) for _ in range(3)]
        self.t = [x.new_tensor([2.0 + k]).expand(len(x)).clone() for k in range(3)]
        self.known = torch.zeros(len(x), dtype=torch.long, device=x.device)

    def add(self, F: Tensor, t: float, to: Tensor) -> None:
        """Add the velocity at t to the images `to` (B,)."""
        chosen = per_image(F, to)
        self.F = [torch.where(chosen, new, old) for new, old in zip([F, *self.F], self.F)]
        now = torch.full_like(self.t[0], t)
        self.t = [torch.where(to, new, old) for new, old in zip([now, *self.t], self.t)]
        self.known += to

    def at(self, t: float) -> Tensor:
        """The line through the two newest, at time t."""
        return self.F[0] + (self.F[0] - self.F[1]) * per_image(self.F[0], (t - self.t[0]) / (self.t[0] - self.t[1]))

    def differences(self) -> tuple[Tensor, Tensor]:
        """The newest first and second difference, at the newest spacing of times."""
        first = self.F[0] - self.F[1]
        ratio = (self.t[0] - self.t[1]) / (self.t[1] - self.t[2])
        return first, first - (self.F[1] - self.F[2]) * per_image(first, ratio)

    def calm(self, skipping: Skipping) -> Tensor:
        """Which images (B,) may skip the next call."""
        first, second = self.differences()
        if skipping.rule == "paper":  # the criterion of an Euler step, by algebra: <d, q>/2 - 2/3 <q, q> < 0
            allowed = dot(first, second) / 2 - 2 / 3 * dot(second, second) < 0
        elif skipping.rule == "norm":
            allowed = dot(second, second).sqrt() < skipping.threshold * dot(self.F[0], self.F[0]).sqrt()
        else:
            allowed = torch.ones_like(self.known, dtype=torch.bool)
        return allowed & (self.known >= 3)


def sada(
    velocity: Velocity,
    noise: Tensor,
    times: Sequence[float],
    skipping: Skipping = Skipping(),
    report: Report | None = None,
) -> Tensor:
    """Euler steps, of which some take their velocity from a line. Arguments and errors as for `euler`.

    The first max(3, a fifth) and the last three steps are always computed. The paper's other parts, for each token and
    by interpolation of images, need the inside of a network and are not here; the line follows times, not the number of
    a step as in the released code.
    """
    x, steps = start(noise, times)
    line = Line(x)
    skip, in_row = torch.zeros_like(line.known, dtype=torch.bool), torch.zeros_like(line.known)
    first = max(3, len(steps) // 5)
    for i, (t, r) in enumerate(steps):
        skip &= (in_row < skipping.longest) & (first <= i < len(steps) - LAST)
        guess = line.at(t)
        if bool(skip.all()):
            F = guess
        else:
            called = velocity(x, t)
            F = torch.where(per_image(x, skip), guess, called)
            line.add(called, t, ~skip)
        in_row = torch.where(skip, in_row + 1, 0)
        skip = line.calm(skipping)
        x = stepped(i, t, r, x, F, x + (r - t) * F, report)
    return finish(x)
