"""Schedules are strictly decreasing lists with exact ends and known values in between."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from tim_model import SCHEDULES, make_times, parse_times
from tim_model.sampling.schedule import check_times, next_times

KNOWN = {  # three inner times of four steps, worked out by hand
    "uniform": [3 / 4, 2 / 4, 1 / 4],
    "shifted": [9 / 10, 3 / 4, 1 / 2],  # 3u / (1 + 2u)
    "cosine": [(2 + 2**0.5) / 4, 1 / 2, (2 - 2**0.5) / 4],  # (1 - cos(pi u)) / 2
    "quadratic": [9 / 16, 1 / 4, 1 / 16],
    "logit_normal": [0.6625078, 1 / 2, 0.3374922],  # sigmoid of the quartiles of a normal, ±0.6744898
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_known_values(kind):
    assert make_times(kind, 4) == pytest.approx([1, *KNOWN[kind], 0], abs=1e-7)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 16, 128, 1000])
@pytest.mark.parametrize(("start", "end"), [(1.0, 0.0), (0.7, 0.0), (1, 0.3), (0.55, 0.1)])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_ends_are_exact_and_times_decrease(kind, start, end, steps):
    times = make_times(kind, steps, start, end)
    assert len(times) == steps + 1
    assert times[0] == start and times[-1] == end
    assert all(r < t for t, r in pairwise(times))
    assert all(type(t) is float for t in times)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_part_of_the_range_is_the_whole_one_scaled(kind):
    scaled = [0.2 + 0.6 * t for t in make_times(kind, 6)]
    assert make_times(kind, 6, 0.8, 0.2) == pytest.approx(scaled)


def test_shift_1_is_uniform():
    assert make_times("shifted", 9, shift=1.0) == pytest.approx(make_times("uniform", 9))


@pytest.mark.parametrize("shift", [0.3, 2.0, 6.0])
def test_shift_scales_the_noise_to_signal_ratio(shift):
    """What the shift is for: t / (1 - t), the ratio of ot_fm, is multiplied by it."""
    for t, u in zip(make_times("shifted", 9, shift=shift)[1:-1], make_times("uniform", 9)[1:-1], strict=True):
        assert t / (1 - t) == pytest.approx(shift * u / (1 - u))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.4, 1.0), (0.5, 1.6)])
def test_logit_normal_times_are_quantiles(mean, std):
    """A share u of the training times lies below the time for u: by formula, and by drawing them."""
    times = torch.tensor(make_times("logit_normal", 8, mean=mean, std=std)[1:-1])
    u = torch.arange(7, 0, -1) / 8
    normal = math.sqrt(2) * torch.erfinv(2 * u - 1)
    torch.testing.assert_close(times, (mean + std * normal).sigmoid())
    drawn = (mean + std * torch.randn(100_000, generator=torch.Generator().manual_seed(0))).sigmoid()
    share = (drawn < times[:, None]).float().mean(dim=1)
    torch.testing.assert_close(share, u, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("linear", 4), {}, "schedule 'linear': expected one of uniform, shifted, cosine, quadratic, logit_normal"),
        (("uniform", 0), {}, "steps=0"),
        (("uniform", 2.5), {}, "steps=2.5: expected a whole number"),
        (("uniform", 4, 0.5, 0.5), {}, "start=0.5 and end=0.5: expected 1 >= start > end >= 0"),
        (("uniform", 4, 0.2, 0.6), {}, "start=0.2 and end=0.6"),
        (("uniform", 4, 1.2), {}, "start=1.2"),
        (("uniform", 4, 1.0, -0.1), {}, "end=-0.1"),
        (("uniform", 4, math.nan), {}, "nan"),
        (("shifted", 4), {"shift": 0.0}, "shift=0.0: expected a number above 0"),
        (("shifted", 4), {"shift": -2.0}, "shift=-2.0"),
        (("logit_normal", 4), {"std": 0.0}, "std=0.0"),
        (("logit_normal", 4), {"std": math.inf}, "std=inf: expected a number above 0, and finite"),
        (("logit_normal", 4), {"mean": math.nan}, "mean=nan: expected a finite number"),
        (("logit_normal", 8), {"std": 400.0}, "with steps=8, std=400: times fall from 1 to 1: expected strictly decre"),
        (("logit_normal", 4), {"mean": -5000.0}, "take fewer steps or a milder mean"),
        (("uniform", 4), {"shift": 2.0}, "'uniform' has no option among shift"),
        (("uniform", 1000, 1.0, math.nextafter(1, 0)), {}, "strictly decreasing"),
    ],
)
def test_make_times_refuses(arguments, options, message):
    with pytest.raises(ValueError) as error:
        make_times(*arguments, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["1, 0.6, 0.25, 0", "1 .6 .25 0", "1;0.6;0.25;0", " 1.0,6e-1 ,\n0.25 , 0.0, "],
    ids=["commas", "spaces", "semicolons", "mixed"],
)
def test_parse_times(text):
    assert parse_times(text) == [1.0, 0.6, 0.25, 0.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected at least two"),
        ("1", "expected at least two"),
        ("1, half, 0", "times '1, half, 0': expected numbers such as"),
        ("1, 0.5, 0.5, 0", "fall from 0.5 to 0.5: expected strictly decreasing"),
        ("0, 0.5, 1", "fall from 0 to 0.5"),
        ("1.5, 0", "run from 1.5 to 0: expected numbers between 1 and 0"),
        ("1, -0.5", "run from 1 to -0.5"),
        ("1, nan, 0", "strictly decreasing"),
        ("inf, 0", "run from inf to 0"),
    ],
)
def test_parse_times_refuses(text, message):
    with pytest.raises(ValueError) as error:
        parse_times(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_other_transports_reach_higher():
    assert check_times([80.0, 1.0, 0.01], highest=80.0) == [80.0, 1.0, 0.01]
    with pytest.raises(ValueError, match="between 80 and 0"):
        check_times([81.0, 1.0], highest=80.0)


@pytest.mark.parametrize(
    ("t", "r"),
    [
        (1.0, 0.6),
        (0.6, 0.25),
        (0.25, 0.0),
        (0.0, 0.0),  # nothing follows
        (0.8, 0.6),  # between entries
        (0.6 + 1e-7, 0.25),  # an entry, but for rounding
        (0.1, 0.0),
        (1.5, 1.0),
    ],
)
def test_next_times(t, r):
    """Each sample has its own time."""
    schedule = torch.tensor([1.0, 0.6, 0.25, 0.0])
    assert next_times(torch.tensor([t, 0.6]), schedule).tolist() == pytest.approx([r, 0.25])


def test_next_time_of_a_repeated_entry_is_lower():
    schedule = torch.tensor([1.0, 0.6, 0.6, 0.2])
    assert next_times(torch.tensor([0.6]), schedule).tolist() == pytest.approx([0.2])


def test_next_time_below_the_last_entry_is_itself():
    assert next_times(torch.tensor([0.1]), torch.tensor([1.0, 0.2])).tolist() == pytest.approx([0.1])
