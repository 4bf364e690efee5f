from __future__ import annotations

import pytest
import torch

from tests.tim_model.sampling.solvers.problems import SHIFTED, START, UNIFORM, error, mixture, runge_kutta
from tim_model.sampling.solvers.sada import RULES, Line, Skipping, sada
from tim_model.sampling.solvers.steps import Counted, euler


def test_lines_are_exact_for_velocities_that_are_linear_in_time():
    def velocity(x, t):
        return torch.full_like(x, 2 + 3 * t)

    counted = Counted(velocity)
    end = sada(counted, START, SHIFTED[32], Skipping("alternate"))
    torch.testing.assert_close(end, euler(velocity, START, SHIFTED[32]), atol=1e-5, rtol=0)
    assert counted.calls == 32 - 12  # every second of the steps 6 to 28


def test_no_skip_is_euler():
    end = sada(mixture, START, UNIFORM[16], Skipping("alternate", longest=0))
    assert torch.equal(end, euler(mixture, START, UNIFORM[16]))


@pytest.mark.parametrize("rule", RULES)
def test_few_steps_have_nothing_to_skip(rule):
    counted = Counted(mixture)
    assert torch.equal(sada(counted, START, UNIFORM[4], Skipping(rule)), euler(mixture, START, UNIFORM[4]))
    assert counted.calls == 4


def test_norm_rule_skips_more_at_a_larger_threshold():
    calls = []
    for threshold in (0.0, 0.05, 1e9):
        counted = Counted(mixture)
        sada(counted, START[:1], UNIFORM[32], Skipping("norm", threshold))
        calls.append(counted.calls)
    alternate = Counted(mixture)
    sada(alternate, START[:1], UNIFORM[32], Skipping("alternate"))
    assert calls[0] == 32 > calls[1] >= calls[2] == alternate.calls


def test_longer_rows_of_skips():
    calls = []
    for longest in (1, 2, 4):
        counted = Counted(mixture)
        sada(counted, START[:1], UNIFORM[32], Skipping("alternate", longest=longest))
        calls.append(counted.calls)
    assert calls[0] > calls[1] > calls[2]


def test_paper_rule_is_the_criterion_of_an_euler_step():
    """<solver's next state - guess of three velocities, second difference>, guess by the weights 5/6, 5/6, -2/3."""
    line = Line(START)
    draws = torch.randn(4, *START.shape, generator=torch.Generator().manual_seed(1))
    velocities = [k * draws[3] + 0.3 * draws[k] for k in range(3)]
    for k, F in enumerate(velocities):
        line.add(F, 0.9 - 0.1 * k, torch.ones(len(START), dtype=torch.bool))
    newest, middle, oldest = velocities[2], velocities[1], velocities[0]
    gap = -newest + (5 / 6 * newest + 5 / 6 * middle - 2 / 3 * oldest)  # (euler - guess) / D
    second = newest - 2 * middle + oldest
    expected = (gap * second).flatten(1).sum(1) < 0
    assert torch.equal(line.calm(Skipping("paper")), expected) and 0 < expected.sum() < len(expected)


def test_half_the_calls_of_a_step_closer_than_euler_of_as_many():
    """The line is worth it: closer to the reference than Euler with as many calls."""
    counted, reference = Counted(mixture), runge_kutta(mixture, START)
    end = sada(counted, START, UNIFORM[32], Skipping("alternate"))
    assert counted.calls < 32
    times = [1 - i / counted.calls for i in range(counted.calls + 1)]
    assert error(end, reference) < error(euler(mixture, START, times), reference)


@pytest.mark.parametrize("options", [{"rule": "best"}, {"threshold": -1.0}, {"longest": -1}], ids=str)
def test_bad_settings_are_one_line(options):
    with pytest.raises(ValueError, match="expected"):
        Skipping(**options)
