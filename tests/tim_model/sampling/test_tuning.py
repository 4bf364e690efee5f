"""Schedules that a network chooses."""

from __future__ import annotations

from itertools import combinations, pairwise

import torch

from tim_model.sampling.tuning import cheapest_path, descend, discrepancy, transition_costs, walk

GRID = [1 - i / 8 for i in range(9)]
X = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def bent(x, t, r):
    """Euler's step of a path that turns most near t = 0.3."""
    return x + (r - t) * x / (0.05 + (t - 0.3) ** 2)


def test_the_cheapest_path_is_the_best_of_all():
    costs = torch.rand(9, 9, generator=torch.Generator().manual_seed(1))
    costs = torch.where(torch.ones(9, 9).triu(1) > 0, costs, torch.inf)
    for steps in (1, 2, 3, 8):
        paths = [(0, *inner, 8) for inner in combinations(range(1, 8), steps - 1)]
        totals = {path: sum(float(costs[a, b]) for a, b in pairwise(path)) for path in paths}
        assert tuple(cheapest_path(costs, steps)) == min(totals, key=totals.get)


def test_costs_are_those_of_single_transitions_on_the_fine_run():
    states = walk(bent, X, GRID)
    costs = transition_costs(bent, states, GRID)
    assert costs[3, 4] == 0
    assert torch.isinf(costs[4, 4]) and torch.isinf(costs[5, 4])
    torch.testing.assert_close(float(costs[2, 6]), discrepancy(bent(states[2], GRID[2], GRID[6]), states[6]))


def test_the_descent_never_gets_worse_and_ends_where_no_move_helps():
    end = walk(bent, X, GRID)[-1]

    def cost(path):
        return discrepancy(walk(bent, X, [GRID[k] for k in path])[-1], end)

    found = descend(bent, X, end, [0, 2, 4, 8], GRID)
    assert cost(found) <= cost([0, 2, 4, 8])
    for i in (1, 2):
        for k in range(found[i - 1] + 1, found[i + 1]):
            assert cost([*found[:i], k, *found[i + 1 :]]) >= cost(found)
