"""Each solver with as many steps as a number of network calls allows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tim_model import make_times
from tim_model.sampling.solvers.epd import EPDTable, epd, midpoint_table, read_table, write_table
from tim_model.sampling.solvers.multistep import a_flops, ab2
from tim_model.sampling.solvers.sada import RULES, Skipping, sada
from tim_model.sampling.solvers.steps import Counted, euler
from training.distillation.epd import distill, end_error, teach

from .host import host_solvers
from .problems import Problem

SEEDS, ITERATIONS = 2, 30  # of EPD tables
SKIPPED_CALLS = 16  # most calls of SADA on the demo, whose images are drawn one by one
DISTILLED_CALLS = {1: 16, 3: 8}  # of EPD on the demo, by its points, at uniform times without guidance alone


@dataclass(frozen=True)
class Result:
    """Images of one method, and what they cost.

    Args:
        calls: network calls, for SADA the mean over images.
        depth: calls that wait for each other.
        seconds: of the processor, for each image.
    """

    x: Tensor
    steps: int
    calls: float
    depth: float
    seconds: float


Method = Callable[[Problem, str, int], Result | None]
"""Problem, schedule and number of calls -> images; None where that was not tried."""


def times_of(schedule: str, steps: int) -> list[float]:
    return make_times(schedule, steps)  # "shifted" has shift 3


def plain(solver: Callable, calls_a_step: int = 1) -> Method:
    """A method with a fixed number of calls a step."""

    def method(problem: Problem, schedule: str, calls: int) -> Result:
        steps = max(1, calls // calls_a_step)
        return run(problem, solver, times_of(schedule, steps), slice(None))

    return method


def run(problem: Problem, solver: Callable, times: list[float], rows: slice) -> Result:
    velocity, noise = Counted(problem.field(rows)), problem.noise[rows]
    start = time.process_time()
    with torch.no_grad():
        x = solver(velocity, noise, times)
    seconds = (time.process_time() - start) / len(noise)
    return Result(x, len(times) - 1, velocity.calls, velocity.calls, seconds)


def skipping(rule: str) -> Method:
    """SADA with the most steps, at most twice the calls, for which its images need no more calls in the mean."""
    solver = partial(sada, skipping=Skipping(rule))

    def one_by_one(problem: Problem, schedule: str, steps: int) -> Result:
        rows = [slice(i, i + 1) for i in range(len(problem.noise))]
        results = [run(problem, solver, times_of(schedule, steps), row) for row in rows]
        calls, seconds = (sum(getattr(r, name) for r in results) / len(rows) for name in ("calls", "seconds"))
        return Result(torch.cat([r.x for r in results]), steps, calls, calls, seconds)

    def method(problem: Problem, schedule: str, calls: int) -> Result | None:
        if problem.name == "demo" and calls > SKIPPED_CALLS:
            return None
        best, low, high = one_by_one(problem, schedule, calls), calls, 2 * calls
        while high - low > 1:
            middle = (low + high) // 2
            result = one_by_one(problem, schedule, middle)
            low, high = (middle, high) if result.calls <= calls else (low, middle)
            best = result if result.calls <= calls else best
        return best

    return method


def distilled(points: int, folder: Path) -> Method:
    """EPD by a table for the problem and its times, kept in `folder`: the best of `SEEDS` on a held-out batch."""

    def method(problem: Problem, schedule: str, calls: int) -> Result | None:
        costly = calls > DISTILLED_CALLS[points] or problem.cfg > 1 or schedule != "uniform"
        if costly and problem.name == "demo":
            return None
        times = times_of(schedule, calls // (points + 1))
        path = folder / f"{problem.name}-cfg{problem.cfg:g}-{schedule}-{len(times) - 1}steps-{points}.safetensors"
        if not path.exists():
            write_table(best_table(problem, times, points), path)
        table = read_table(path)
        found = run(problem, partial(epd, table=table), times, slice(None))
        return Result(found.x, found.steps, found.calls, 2 * found.steps, found.seconds)

    return method


def best_table(problem: Problem, times: list[float], points: int) -> EPDTable:
    *runs, held_out = [teach(velocity, noise, times) for velocity, noise in problem.others]
    tables = [
        distill(runs, times, points, ITERATIONS, seed).table(times, torch.zeros(16), problem.cfg)
        for seed in range(SEEDS)
    ]
    return min(tables, key=partial(end_error, held_out))


def midpoint(velocity: Callable, noise: Tensor, times: list[float]) -> Tensor:
    return epd(velocity, noise, times, midpoint_table(times))


def transitions(problem: Problem, schedule: str, calls: int) -> Result:
    """TiM's own steps: one call each, another map than the velocity's path."""
    start = time.process_time()
    x = problem.transitions(problem.noise, times_of(schedule, calls))
    return Result(x, calls, calls, calls, (time.process_time() - start) / len(x))


def methods(problem: Problem, folder: Path) -> dict[str, Method]:
    """All methods for a problem; EPD tables are kept in `folder`."""
    host = {f"{name} (host)": plain(s, 2 if name == "heun" else 1) for name, s in host_solvers().items()}
    return {
        "Euler": plain(euler), "AB2": plain(ab2), "midpoint": plain(midpoint, 2),
        "A-FloPS, clamp 1": plain(a_flops), "A-FloPS, no clamp": plain(partial(a_flops, clamp=100.0)),
        **{f"SADA, {rule}": skipping(rule) for rule in RULES},
        "EPD, 1 point": distilled(1, folder), "EPD, 3 points": distilled(3, folder), **host,
        **({"TiM transitions*": transitions} if problem.transitions else {}),
    }  # fmt: skip
