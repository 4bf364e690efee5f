"""Schedules that a network chooses: the times for which few transitions end where its own many do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from .schedule import make_times

Jump = Callable[[Tensor, float, float], Tensor]
"""x_r of one transition (x_t, t, r), guidance included."""
GRID, FINER = 20, 4  # times that a schedule can have; steps of the fine run between two of them
ROUNDS = 4  # of the descent, which mostly ends earlier


def walk(jump: Jump, x: Tensor, times: Sequence[float]) -> list[Tensor]:
    """The states at all times, `x` at the first."""
    states = [x]
    for t, r in pairwise(times):
        states.append(jump(states[-1], t, r))
    return states


def discrepancy(x: Tensor, end: Tensor) -> float:
    """The mean over images of the squared distance over the squared size of `end`."""
    return float(((x - end).square().flatten(1).sum(1) / end.square().flatten(1).sum(1)).mean())


@torch.no_grad()
def transition_costs(jump: Jump, states: Sequence[Tensor], grid: Sequence[float]) -> Tensor:
    """(G,G): the discrepancy of each single transition from i to j > i on the fine run's states; inf elsewhere."""
    costs = torch.full((len(grid), len(grid)), torch.inf)
    for i in range(len(grid) - 1):
        for j in range(i + 1, len(grid)):
            costs[i, j] = discrepancy(jump(states[i], grid[i], grid[j]), states[j])
    return costs


def cheapest_path(costs: Tensor, steps: int) -> list[int]:
    """The places from the first to the last whose `steps` transitions cost least in sum, by dynamic programming."""
    count = len(costs)
    total, origins = costs[0].clone(), []
    for _ in range(steps - 1):
        sums = total[:, None] + costs
        total, origin = sums.min(dim=0)
        origins.append(origin)
    path = [count - 1]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return [0, *reversed(path)]


@torch.no_grad()
def descend(jump: Jump, noise: Tensor, end: Tensor, path: list[int], grid: Sequence[float]) -> list[int]:
    """The path after moving each inner place on the grid, as long as the whole run's discrepancy falls."""

    states = walk(jump, noise, [grid[k] for k in path])
    best = discrepancy(states[-1], end)
    for _ in range(ROUNDS):
        before = best
        for i in range(1, len(path) - 1):
            for k in neighbors(path, i):
                tried = [*path[:i], k, *path[i + 1 :]]
                rest = walk(jump, states[i - 1], [grid[k] for k in tried[i - 1 :]])  # before it nothing changes
                if (found := discrepancy(rest[-1], end)) < best:
                    best, path, states = found, tried, [*states[: i - 1], *rest]
        if best == before:
            break
    return path


def neighbors(path: Sequence[int], i: int) -> list[int]:
    """Places that the i-th may take between its neighbors, the nearest first; at most 8."""
    places = [k for k in range(path[i - 1] + 1, path[i + 1]) if k != path[i]]
    return sorted(places, key=lambda k: abs(k - path[i]))[:8]


@torch.no_grad()
def tune(
    jump: Jump, noise: Tensor, steps: Iterable[int], report: Callable[[int], None] = lambda count: None
) -> dict[int, list[float]]:
    """For each number of steps the times from 1 to 0, on a grid of 1/20, that end nearest to the run over a finer grid.

    Dynamic programming over single transitions gives one start of the descent, equal steps another.

    Args:
        report: called with each number of steps that is done.

    Raises:
        ValueError: a number of steps that the grid does not have.
    """
    grid = make_times("uniform", GRID)
    states = walk(jump, noise, make_times("uniform", GRID * FINER))[::FINER]
    costs, found = transition_costs(jump, states, grid), {}
    for count in steps:
        if not 1 <= count <= GRID:
            raise ValueError(f"steps={count}: expected 1 to {GRID}, as many as the grid of times has")
        starts = cheapest_path(costs, count), [round(i * GRID / count) for i in range(count + 1)]
        paths = [descend(jump, noise, states[-1], path, grid) for path in starts]
        found[count] = min(([grid[k] for k in path] for path in paths), key=partial(end_cost, jump, noise, states[-1]))
        report(count)
    return found


def end_cost(jump: Jump, noise: Tensor, end: Tensor, times: Sequence[float]) -> float:
    """The discrepancy of a run through `times` to where another ended."""
    return discrepancy(walk(jump, noise, times)[-1], end)
