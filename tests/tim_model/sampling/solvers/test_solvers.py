"""What holds for every solver: its order, the calls that it makes, its batches, its checks."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch

from tests.tim_model.sampling.solvers.problems import SHIFTED, START, UNIFORM, error, gaussian, mixture, runge_kutta
from tim_model.sampling.noise import image_noise_stream
from tim_model.sampling.solvers.epd import epd, midpoint_table
from tim_model.sampling.solvers.multistep import a_flops, ab2
from tim_model.sampling.solvers.sada import RULES, Skipping, sada
from tim_model.sampling.solvers.skipped_step import skipped_step
from tim_model.sampling.solvers.steps import Counted, euler

RUN = {
    "euler": euler,
    "ab2": ab2,
    "a_flops": a_flops,
    **{f"sada {rule}": partial(sada, skipping=Skipping(rule)) for rule in RULES},
    "skipped_step": lambda F, x, times, report=None: skipped_step(
        F, x, times, noise_fn=image_noise_stream(3), report=report
    ),
    "epd": lambda F, x, times, report=None: epd(F, x, times, midpoint_table(times), report),
}
each = pytest.mark.parametrize("name", RUN)


@each
def test_calls_and_reports(name):
    """Every step is reported, skipped ones too, and no velocity is asked for at t = 0."""
    asked, steps, times = [], [], SHIFTED[16]

    def velocity(x, t):
        asked.append(t)
        return mixture(x, t)

    counted = Counted(velocity)
    end = RUN[name](counted, START, times, report=steps.append)
    assert [(step.i, step.t, step.r) for step in steps] == list(zip(range(16), times, times[1:]))
    assert torch.equal(steps[-1].x_r, end) and torch.equal(steps[0].x_t, START)
    assert all(torch.equal(before.x_r, after.x_t) for before, after in pairwise(steps))
    assert min(asked) > 0 and max(asked) <= 1
    assert counted.calls == len(asked) and (counted.calls < 16 if name == "sada alternate" else counted.calls >= 12)


@each
def test_images_do_not_depend_on_their_neighbors(name):
    whole = RUN[name](mixture, START, UNIFORM[16])
    alone = RUN[name](mixture, START[:1], UNIFORM[16])
    torch.testing.assert_close(alone, whole[:1], atol=1e-5, rtol=0)


@each
def test_the_state_is_never_in_half_precision(name):
    end = RUN[name](mixture, START.bfloat16(), UNIFORM[8])
    assert end.dtype == torch.float32


@each
@pytest.mark.parametrize("times", [[1.0], [0.0, 1.0], [1.0, 0.5, 0.5, 0.0], [1.5, 0.0], [1.0, -0.1]], ids=str)
def test_bad_times_are_one_line(name, times):
    with pytest.raises(ValueError, match="times .*expected") as caught:
        RUN[name](mixture, START, times)
    assert "\n" not in str(caught.value)


@each
def test_a_velocity_that_is_not_finite_is_one_line(name):
    with pytest.raises(ValueError, match="not finite") as caught:
        RUN[name](lambda x, t: x * float("nan"), START, UNIFORM[8])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ab2", "a_flops", "epd"])
def test_second_order(name):
    """Half the steps, four times the error or more; twice for Euler."""
    ends = {n: error(RUN[name](gaussian, START, UNIFORM[n]), runge_kutta(gaussian, START)) for n in (16, 32)}
    assert ends[16] / ends[32] > 3
    first = {n: error(euler(gaussian, START, UNIFORM[n]), runge_kutta(gaussian, START)) for n in (16, 32)}
    assert 1.5 < first[16] / first[32] < 2.5


@pytest.mark.parametrize("name", ["ab2", "a_flops"])
@pytest.mark.parametrize("times", [UNIFORM[8], UNIFORM[16], SHIFTED[16]], ids=["8", "16", "16, shift 3"])
def test_better_than_euler_at_as_many_calls(name, times):
    reference = runge_kutta(mixture, START)
    assert error(RUN[name](mixture, START, times), reference) < error(euler(mixture, START, times), reference)
