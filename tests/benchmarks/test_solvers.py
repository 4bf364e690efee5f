"""The reference, the counts of calls, and the distance of the comparison of solvers."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from benchmarks.solvers.distributions import energy_distance
from benchmarks.solvers.methods import methods
from benchmarks.solvers.problems import MEANS, STD, Problem, mixture, mixture_velocity, reference
from tests.tim_model.sampling.solvers.problems import error, gaussian, gaussian_end

CALLS = 16


@pytest.fixture(scope="module")
def problem() -> Problem:
    return mixture(cfg=1.0, count=4)


def test_the_reference_is_the_end_of_the_path(problem):
    exact = Problem("mixture", 1.0, lambda rows: gaussian, problem.noise, [])
    torch.testing.assert_close(reference(exact), gaussian_end(problem.noise), atol=1e-5, rtol=1e-5)


def test_the_mixture_s_velocity_is_the_mean_of_noise_minus_data_where_there_is_one_component():
    """Near one of the means and at small t the others have no share: the path is that of a single Gaussian."""
    x = MEANS[:3].view(3, 8, 1, 1) + 0.01
    expected = gaussian(x, 0.05, MEANS[:3].view(3, 8, 1, 1), STD)
    torch.testing.assert_close(mixture_velocity(x, 0.05), expected, atol=1e-4, rtol=1e-4)
    guided = mixture_velocity(x, 0.05, torch.arange(3), 2.5)
    torch.testing.assert_close(guided, expected, atol=1e-4, rtol=1e-4)


def test_no_method_makes_more_calls_than_it_may_and_all_come_near(problem, tmp_path):
    exact = reference(problem)
    for name, method in methods(problem, tmp_path).items():
        if name.startswith("EPD"):
            continue
        result = method(problem, "uniform", CALLS)
        assert 0.9 * CALLS <= result.calls <= CALLS, name
        assert error(result.x, exact) < 0.3, name


def test_energy_distance_of_equal_and_of_shifted_normals():
    normal = partial(torch.randn, 2000, 2)
    torch.manual_seed(0)
    assert abs(energy_distance(normal(), normal())) < 0.01
    assert energy_distance(normal(), normal() + 1) > 0.2
