"""Draws are functions of (seed, step, row) alone, and random."""

from __future__ import annotations

import pytest
import torch

from training.objectives.draws import Draws

NORMAL_VALUES = [[-0.7502814, 0.2644171], [0.1686396, 0.0478972]]
UNIFORM_VALUES = [0.4694463, 0.7456494]


@pytest.mark.parametrize("other", [Draws(1, 0, [0]), Draws(0, 1, [0]), Draws(0, 0, [1])])
def test_seed_step_and_row_matter(other):
    draws = Draws(0, 0, [0])
    assert not torch.equal(draws.normal("noise", (8,)), other.normal("noise", (8,)))
    assert torch.equal(draws.normal("noise", (8,)), Draws(0, 0, [0]).normal("noise", (8,)))


def test_streams_differ():
    draws = Draws(0, 0, range(4))
    assert not (draws.uniform("dropout") == draws.uniform("split")).any()


def test_values_stay_the_same():
    """A resumed run goes on with the numbers of the first session, whatever the library versions."""
    draws = Draws(seed=5, step=123, rows=[0, 77])
    torch.testing.assert_close(draws.normal("noise", (2,)), torch.tensor(NORMAL_VALUES), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(draws.uniform("dropout"), torch.tensor(UNIFORM_VALUES), rtol=1e-6, atol=1e-6)


def test_numbers_are_random():
    """Rows and steps are independent: moments and correlations of many draws."""
    z = torch.stack([Draws(0, step, range(64)).normal("noise", (16,)) for step in range(16)])
    assert z.dtype == torch.float32
    assert abs(float(z.mean())) < 0.03 and abs(float(z.std()) - 1) < 0.03
    assert len(z.unique()) > 0.99 * z.numel(), "rows share numbers"
    for a, b in [(z[1:], z[:-1]), (z[:, 1:], z[:, :-1]), (z[..., 1:], z[..., :-1])]:
        assert abs(float((a * b).mean())) < 0.03
    u = Draws(0, 0, range(2000)).uniform("dropout")
    assert 0 <= float(u.min()) and float(u.max()) < 1 and abs(float((u < 0.1).float().mean()) - 0.1) < 0.025
