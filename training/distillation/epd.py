"""Distills EPD tables (arXiv 2507.14797), the evaluation points of each step, by gradients through the whole run.

The loss is the squared error to the states of a finer run, as in the released code. Unlike it, times between are
linear, the factors of times stay 1, and no image features are compared at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tim_model.sampling.schedule import make_times
from tim_model.sampling.solvers.epd import EPDTable, epd, epd_step, midpoint_table
from tim_model.sampling.solvers.steps import Velocity

FINER = 4  # teacher steps per student step
SCALE = 0.05  # largest change of a velocity's length
LEARNING_RATES = 0.2, 0.01  # at the first and the last iteration


@dataclass(frozen=True)
class Run:
    """A velocity function, and the teacher's states of one batch at the student's times, noise first."""

    velocity: Velocity
    states: list[Tensor]


@torch.no_grad()
def teach(velocity: Velocity, noise: Tensor, times: Sequence[float]) -> Run:
    """The run of the midpoint rule in `FINER` times as many steps."""
    states = [noise]
    for t, r in pairwise(times):
        finer = make_times("uniform", FINER, t, r)
        states.append(epd(velocity, states[-1], finer, midpoint_table(finer)))
    return Run(velocity, states)


class Numbers(nn.Module):
    """The numbers of a table as free parameters (N,K), initialized from a normal distribution."""

    def __init__(self, steps: int, points: int, seed: int):
        super().__init__()
        draws = torch.randn(3, steps, points, generator=torch.Generator().manual_seed(seed))
        self.place, self.share, self.length = (nn.Parameter(draw) for draw in draws)

    def values(self) -> list[Tensor]:
        """rho, weight, direction and time, as in `EPDTable`."""
        rho = self.place.sigmoid().clamp(1e-4, 1 - 1e-4)
        return [rho, self.share.softmax(1), 1 + SCALE * (self.length / 2).tanh(), torch.ones_like(rho)]

    def loss(self, run: Run, times: Sequence[float]) -> Tensor:
        """The mean squared error to the teacher along the student's own run, at all times except the first."""
        x, losses = run.states[0], []
        values = [value.to(x.device) for value in self.values()]

        def velocity(x: Tensor, t: float | Tensor) -> Tensor:
            return checkpoint(run.velocity, x, t, use_reentrant=False)

        for i, (t, r) in enumerate(pairwise(times)):
            points = zip(*(value[i] for value in values))
            x = epd_step(velocity, x, velocity(x, t), t, r, points)
            losses.append((x - run.states[i + 1]).square().mean())
        return torch.stack(losses).mean()

    @torch.no_grad()
    def table(self, times: Sequence[float], model: Tensor, cfg: float) -> EPDTable:
        return EPDTable(torch.tensor(times), *(value.clone() for value in self.values()), model, cfg)


@torch.no_grad()
def end_error(run: Run, table: EPDTable) -> float:
    """The mean over images of the relative distance to the teacher at the last time."""
    end = run.states[-1]
    found = epd(run.velocity, run.states[0], table.times.tolist(), table)
    return float(((found - end).flatten(1).norm(dim=1) / end.flatten(1).norm(dim=1)).mean())


def distill(
    runs: Sequence[Run],
    times: Sequence[float],
    points: int,
    iterations: int,
    seed: int,
    report: Callable[[float], None] = lambda loss: None,
) -> Numbers:
    """Optimize a table so that its run follows the teacher's; each iteration uses the next of `runs`.

    Args:
        report: called with the loss of each iteration.

    Raises:
        ValueError: a loss that is not finite.
    """
    numbers = Numbers(len(times) - 1, points, seed)
    optimizer = torch.optim.Adam(numbers.parameters(), lr=LEARNING_RATES[0])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations, LEARNING_RATES[1])
    for i in range(iterations):
        optimizer.zero_grad()
        loss = numbers.loss(runs[i % len(runs)], times)
        if not loss.isfinite():
            raise ValueError("the loss is not finite (NaN or infinite): the model's velocity is not")
        loss.backward()
        optimizer.step()
        schedule.step()
        report(float(loss.detach()))
    return numbers
