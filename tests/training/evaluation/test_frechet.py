"""training.frechet against distances known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.evaluation.frechet import Statistics, frechet_distance, statistics


def random_statistics(seed: int, size: int = 5) -> Statistics:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(size, size, generator=generator)
    return statistics(torch.randn(200, size, generator=generator) @ mix + torch.randn(size, generator=generator))


def test_of_a_set_and_itself_is_zero():
    assert frechet_distance(random_statistics(0), random_statistics(0)) == pytest.approx(0, abs=1e-9)


def test_of_shifted_sets_is_the_squared_shift():
    mean, covariance = random_statistics(1)
    shift = np.array([3.0, 0, 4, 0, 0])
    shifted = Statistics(mean + shift, covariance)
    assert frechet_distance(Statistics(mean, covariance), shifted) == pytest.approx(25)


def test_of_diagonal_covariances_compares_standard_deviations():
    a = Statistics(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    b = Statistics(np.zeros(3), np.diag([4.0, 4.0, 1.0]))
    assert frechet_distance(a, b) == pytest.approx((1 - 2) ** 2 + 0 + (3 - 1) ** 2)


def test_is_symmetric_and_not_changed_by_rotations():
    a, b = random_statistics(2), random_statistics(3)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    turned = [Statistics(rotation @ s.mean, rotation @ s.covariance @ rotation.T) for s in (a, b)]
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b))
    assert frechet_distance(*turned) == pytest.approx(frechet_distance(a, b))


def test_statistics_are_the_mean_and_the_unbiased_covariance():
    features = torch.tensor([[0.0, 1.0], [2.0, 5.0], [4.0, 0.0]])
    found = statistics(features)
    np.testing.assert_allclose(found.mean, [2, 2])
    np.testing.assert_allclose(found.covariance, [[4, -1], [-1, 7]])


@pytest.mark.parametrize("features", [torch.zeros(1, 3), torch.zeros(4), torch.tensor([[0.0], [float("nan")]])])
def test_refuses_what_has_no_statistics(features):
    with pytest.raises(ValueError, match="expected"):
        statistics(features)
