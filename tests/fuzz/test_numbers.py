"""Numbers and texts of any kind for schedules, sizes and the command line: a valid result, or one line."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.strategies import fuzz, numbers, refused_in_one_line, texts
from tim_model import SCHEDULES, make_times, parse_times
from tim_model.__main__ import main
from tim_model.sampling.sizes import MAX_SIDE, choose_size, parse_aspect

WORDS = st.sampled_from(["1", "0", ".5", "1e-3", "-1", "nan", "inf", "-inf", ",", ";", "x", "1e400", "٣", "1_0", " "])
OPTIONS = ["--steps", "--times", "--cfg", "--guidance", "--seed", "--size", "--aspect", "--megapixels", "--batch"]
OPTIONS += ["--stochasticity", "--renoise", "--large-steps", "--schedule", "--lora", "--out", "--class", "--dtype"]


def assert_schedule(times: list[float]) -> None:
    assert len(times) >= 2 and all(math.isfinite(t) for t in times)
    assert 0 <= times[-1] < times[0] <= 1 and all(r < t for t, r in pairwise(times))


@fuzz(1000)
@given(
    kind=st.sampled_from([*SCHEDULES, "linear"]),
    steps=st.integers(-1, 40) | st.sampled_from([2.5, 1000]),
    start=st.sampled_from([1.0, 0.6]) | numbers,
    end=st.sampled_from([0.0, 0.1]) | numbers,
    options=st.dictionaries(st.sampled_from(["shift", "mean", "std", "rho"]), numbers, max_size=2),
)
def test_schedules(kind, steps, start, end, options):
    with refused_in_one_line():
        assert_schedule(make_times(kind, steps, start, end, **options))


@fuzz(1000)
@given(st.lists(WORDS, max_size=8).map(" ".join) | texts)
def test_lists_of_times(text):
    with refused_in_one_line():
        assert_schedule(parse_times(text))


@fuzz(500)
@given(st.lists(WORDS, max_size=3).map("".join) | texts, numbers, st.integers(-1, 100) | st.just(10**9))
def test_sizes(aspect, megapixels, unit):
    with refused_in_one_line():
        width, height = choose_size(parse_aspect(aspect), megapixels, unit)
        assert 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width % unit == height % unit == 0


@fuzz(1000)
@given(st.lists(st.tuples(st.sampled_from(OPTIONS), st.lists(WORDS, min_size=1, max_size=3).map("".join)), max_size=4))
def test_command_line(tmp_path_factory, arguments):
    """The model does not exist, so that whatever is right ends there."""
    words = [word for option in arguments for word in option]
    try:
        assert main(["generate", "--model", "missing.safetensors", "--class", "0", *words]) == 1
    except SystemExit as stop:  # by argparse, with usage and one line
        assert stop.code == 2
