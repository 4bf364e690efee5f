from __future__ import annotations

import math

import pytest
import torch

from tests.tim_model.sampling.solvers.problems import SHIFTED, START, UNIFORM, mixture
from tim_model.sampling.solvers.multistep import a_flops, ab2, phi


@pytest.mark.parametrize("times", [UNIFORM[8], SHIFTED[8], [1.0, 0.9, 0.5, 0.45, 0.0]], ids=["uniform", "shift", "own"])
def test_a_flops_without_its_linear_part_is_ab2(times):
    torch.testing.assert_close(
        a_flops(mixture, START, times, clamp=0), ab2(mixture, START, times), atol=1e-5, rtol=1e-5
    )


def test_ab2_is_exact_for_velocities_that_are_linear_in_time():
    """dx/dt = a + b t has a parabola as its solution; only the first, Euler's, step misses it."""
    times = [0.9, 0.7, 0.3, 0.1]
    exact = START.double() + 2 * (0.1 - 0.9) + 1.5 * (0.1**2 - 0.9**2)
    missing = -0.5 * 3 * (0.7 - 0.9) ** 2  # of the first step: x'' h² / 2, with x'' = 3
    end = ab2(lambda x, t: torch.full_like(x, 2 + 3 * t), START.double(), times)
    torch.testing.assert_close(end, exact + missing, atol=1e-9, rtol=0)


def test_a_flops_is_exact_for_linear_velocities():
    """dx/dt = c x with |c| <= 1: after Euler's first step x follows e^(c t) exactly."""
    end = a_flops(lambda x, t: -0.8 * x, START.double(), [1.0, 0.9, 0.5, 0.0])
    torch.testing.assert_close(end, START.double() * (1 + 0.1 * 0.8) * math.exp(0.8 * 0.9), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_phi(order):
    z = torch.tensor([-4.0, -0.6, -0.49, -1e-3, 0.0, 1e-6, 0.3, 0.51, 2.0])
    exact = sum(z.double() ** k / float(math.factorial(k + order)) for k in range(40))
    torch.testing.assert_close(phi(order, z), exact.float(), rtol=1e-6, atol=0)


def test_negative_clamp_is_refused():
    with pytest.raises(ValueError, match=r"clamp=-1: expected 0 \(AB2\) or more"):
        a_flops(mixture, START, UNIFORM[4], clamp=-1)
