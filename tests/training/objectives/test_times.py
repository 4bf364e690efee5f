"""Times are functions of (seed, step, row) alone, and follow the published distributions and roles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import pytest
import torch

from tim_model import TRANSPORTS
from training.config.schema import ObjectiveConfig
from training.objectives.draws import Draws
from training.objectives.times import draw_pairs, draw_times, roles

QUANTILES = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
NORMAL = [NormalDist().inv_cdf(float(q)) for q in QUANTILES]
EXPECTED = {
    "ot_fm": [1 / (1 + math.exp(-1.6 * z)) for z in NORMAL],
    "trigflow": [math.atan(math.exp(1.6 * z - 1)) for z in NORMAL],
    "edm": [math.exp(1.2 * z - 1.2) for z in NORMAL],
    "vp": QUANTILES.tolist(),
    "ve": [0.02 * 5000**q for q in QUANTILES.tolist()],
}


def splits(n: int) -> list[list[Sequence[int]]]:
    """One process, two with a slice each, two that take turns, uneven parts, every row alone."""
    halves, turns = [range(n // 2), range(n // 2, n)], [range(0, n, 2), range(1, n, 2)]
    return [[range(n)], halves, turns, [range(3), range(3, n)], [[row] for row in range(n)]]


@pytest.mark.parametrize("name", TRANSPORTS)
@pytest.mark.parametrize("parts", splits(37))
def test_split_of_the_batch_does_not_matter(parts, name):
    """Bit for bit, on any processor: noise, times, roles and dropout of a row are the same wherever it is computed."""
    settings = ObjectiveConfig(transport=name, shift_base=16 if name == "ot_fm" else None)

    def of(rows):
        draws = Draws(seed=3, step=7, rows=rows)
        return draws.normal("noise", (2, 3)), *draw_times(draws, 37, settings, 64), draws.uniform("dropout")

    whole = of(range(37))
    for rows in parts:
        for part, all_rows in zip(of(rows), whole, strict=True):
            assert torch.equal(part, all_rows[list(rows)])


def test_times_are_rounded_once():
    """The nearest float32 to the time that the row's float32 draw means."""
    draws = Draws(seed=5, step=123, rows=range(50))
    z = draws.normal("times", (2,)).tolist()
    t, r = draw_times(draws, 50, ObjectiveConfig(P_mean=-0.4, P_std=1.0, diffusion_ratio=0.0, consistency_ratio=0.0))
    times = [sorted(1 / (1 + math.exp(0.4 - number)) for number in pair) for pair in z]
    assert torch.equal(torch.stack([r, t], dim=1), torch.tensor(times, dtype=torch.float64).float())


@pytest.mark.parametrize("name", TRANSPORTS)
def test_published_distributions(name):
    pairs = draw_pairs(Draws(0, 0, range(4000)), ObjectiveConfig(transport=name)).float()
    expected = torch.tensor(EXPECTED[name])
    spread = (expected[-1] - expected[0]) / 20
    for column in pairs.T:
        assert ((column.quantile(QUANTILES) - expected).abs() < torch.maximum(spread, 0.1 * expected)).all()
    assert abs(float(torch.corrcoef(pairs.T)[0, 1])) < 0.06


def test_own_mean_and_spread():
    pairs = draw_pairs(Draws(0, 0, range(4000)), ObjectiveConfig(P_mean=-0.4, P_std=1.0))
    assert abs(float(pairs.logit().mean()) + 0.4) < 0.05
    assert abs(float(pairs.logit().std()) - 1) < 0.05


@pytest.mark.parametrize("name", TRANSPORTS)
def test_range_and_roles(name):
    """Half of the global batch is r = t, the last tenth r = T_min, the rest the smaller of two draws."""
    path, settings = TRANSPORTS[name], ObjectiveConfig(transport=name)
    t, r = draw_times(Draws(0, 0, range(200)), 200, settings)
    assert t.dtype == r.dtype == torch.float32 and t.shape == r.shape == (200,)
    low = torch.tensor(path.T_min)
    assert (low <= r).all() and (r <= t).all() and (t <= torch.tensor(path.T_max)).all()
    assert torch.equal(r[:100], t[:100])
    assert (r[180:] == low).all() and (t[180:] > low).all()
    free = r[100:180]
    assert (free < t[100:180]).all() and (free > low).float().mean() > 0.9
    pairs = draw_pairs(Draws(0, 0, range(200)), settings).clamp(path.T_min, path.T_max).float()
    assert torch.equal(t, pairs.amax(dim=1)) and torch.equal(free, pairs.amin(dim=1)[100:180])


def test_ratios():
    t, r = draw_times(Draws(0, 0, range(10)), 10, ObjectiveConfig(diffusion_ratio=0.0, consistency_ratio=0.0))
    assert (r < t).all() and (r > 0).all()
    t, r = draw_times(Draws(0, 0, range(10)), 10, ObjectiveConfig(diffusion_ratio=1.0, consistency_ratio=0.0))
    assert torch.equal(t, r)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5, 6, 7, 11])
def test_shares_hold_on_average_at_every_batch_size(batch_size):
    steps, settings = 1000, ObjectiveConfig()
    diffusion = consistency = 0
    for step in range(steps):
        t, r = draw_times(Draws(0, step, range(batch_size)), batch_size, settings)
        assert not ((r == t) & (r == 0)).any()
        diffusion += int((r == t).sum())
        consistency += int((r == 0).sum())
    # a step's count is one of two neighboring whole numbers: at most half a row of deviation, four of them over steps
    tolerance = 4 * 0.5 / steps**0.5
    assert abs(diffusion / steps - 0.5 * batch_size) < tolerance
    assert abs(consistency / steps - 0.1 * batch_size) < tolerance


@pytest.mark.parametrize(
    ("batch_size", "bounds"), [(10, (5, 9)), (20, (10, 18)), (200, (100, 180)), (1000, (500, 900))]
)
def test_whole_products_are_the_released_counts(batch_size, bounds):
    assert {roles(Draws(0, step, [0]), batch_size, ObjectiveConfig()) for step in range(50)} == {bounds}
    thirds = ObjectiveConfig(diffusion_ratio=0.7, consistency_ratio=0.3)
    shares = {roles(Draws(1, step, [0]), batch_size, thirds) for step in range(50)}
    assert shares == {(batch_size * 7 // 10, batch_size * 7 // 10)}


@pytest.mark.parametrize("consistency", [0.0, 0.1, 0.4])
def test_no_row_has_two_roles_and_none_is_left_over(consistency):
    """With shares that make up the whole batch, every row has exactly one role, at every size and step."""
    settings = ObjectiveConfig(diffusion_ratio=1 - consistency, consistency_ratio=consistency)
    for step in range(40):
        for batch_size in range(1, 40):
            first, last = roles(Draws(0, step, [0]), batch_size, settings)
            assert 0 <= first == last <= batch_size


def test_roles_of_a_step_are_shared_by_its_rows():
    """Every process sees the same bounds, whichever rows are its own; another step or seed has others."""
    settings = ObjectiveConfig()
    bounds = [roles(Draws(0, step, [0]), 7, settings) for step in range(100)]
    assert bounds == [roles(Draws(0, step, [3, 5]), 7, settings) for step in range(100)]
    assert bounds != [roles(Draws(1, step, [0]), 7, settings) for step in range(100)]
    assert set(bounds) == {(3, 6), (4, 6), (4, 7)}


@pytest.mark.parametrize("name", TRANSPORTS)
def test_extreme_spread_stays_in_range(name):
    path = TRANSPORTS[name]
    t, r = draw_times(Draws(0, 0, range(40)), 40, ObjectiveConfig(transport=name, P_mean=-50.0, P_std=5000.0))
    assert (r >= torch.tensor(path.T_min)).all() and (t <= torch.tensor(path.T_max)).all()


def test_shift_by_resolution():
    """Four times the tokens: the noise-to-signal ratio t / (1 - t) of every draw doubles (arXiv 2403.03206)."""
    draws, settings = Draws(0, 0, range(20)), ObjectiveConfig(shift_base=64)
    plain, shifted = (torch.stack(draw_times(draws, 20, settings, tokens))[:, :18] for tokens in (64, 256))
    torch.testing.assert_close(plain, torch.stack(draw_times(draws, 20, ObjectiveConfig()))[:, :18])
    torch.testing.assert_close(shifted / (1 - shifted), 2 * plain / (1 - plain), rtol=1e-3, atol=1e-5)


def test_shift_needs_the_size():
    with pytest.raises(ValueError, match="shift_base=64 needs the number of tokens"):
        draw_times(Draws(0, 0, [0]), 1, ObjectiveConfig(shift_base=64))
