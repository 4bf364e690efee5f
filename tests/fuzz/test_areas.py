"""Areas of conditions of any numbers: inside the picture and not empty, or refused in one line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.strategies import fuzz, refused_in_one_line

units = st.integers(0, 2048)  # of 8 pixels, as ConditioningSetArea makes them
shares = st.floats(0, 1)
ratios = st.sampled_from([1, 8, 16, 32])


@pytest.fixture(scope="module")
def areas(root):
    """The module and its folder alone: the rest of the package needs a host."""
    folder = root / "nodes" / "run"
    where = {"submodule_search_locations": [str(folder)]}
    spec = importlib.util.spec_from_file_location("run_alone", folder / "__init__.py", **where)
    sys.modules["run_alone"] = importlib.util.module_from_spec(spec)
    yield importlib.import_module("run_alone.areas")
    for name in ("run_alone", "run_alone.areas", "run_alone.keys"):
        del sys.modules[name]


@fuzz(1000)
@given(
    area=st.tuples(units, units, units, units) | st.tuples(st.just("percentage"), shares, shares, shares, shares),
    ratio=ratios,
    height=st.integers(1, 128),
    width=st.integers(1, 128),
)
def test_areas_of_any_numbers(areas, area, ratio, height, width):
    conditions = {"positive": [{"area": area}, {}], "negative": [{"area": None}]}
    with refused_in_one_line():
        areas.areas_in_cells(conditions, ratio, height, width)
        once = conditions["positive"][0]["area"]
        areas.areas_in_cells(conditions, ratio, height, width)
        assert conditions["positive"][0]["area"] == once
        if once[0] != "percentage":
            assert min(once[:2]) >= 1 and 0 <= once[2] < height and 0 <= once[3] < width


@fuzz(500)
@given(cuts=st.lists(st.integers(0, 256), min_size=2, max_size=6, unique=True), ratio=ratios)
def test_areas_that_touch_stay_together(areas, cuts, ratio):
    cuts = sorted(cuts)
    found = [areas.to_cells((8, b - a, 0, a), ratio) for a, b in pairwise(cuts)]
    for (_, width, _, left), (_, _, _, following) in pairwise(found):
        assert left + width == following or width == 1
