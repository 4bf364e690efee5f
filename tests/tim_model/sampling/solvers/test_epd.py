from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tests.tim_model.sampling.solvers.problems import START, UNIFORM, mixture
from tim_model.files.errors import CheckpointError
from tim_model.files.tensor_files import write_safetensors
from tim_model.sampling.solvers.epd import epd, fingerprint, midpoint_table, read_table, write_table
from tim_model.sampling.solvers.steps import Counted

TIMES = UNIFORM[4]


def test_one_point_in_the_middle_is_the_midpoint_rule():
    x = START
    for t, r in pairwise(TIMES):
        x = x + (r - t) * mixture(x + (r - t) / 2 * mixture(x, t), (t + r) / 2)
    counted = Counted(mixture)
    torch.testing.assert_close(epd(counted, START, TIMES, midpoint_table(TIMES)), x, atol=1e-5, rtol=1e-5)
    assert counted.calls == 8


def test_points_alike_are_one():
    one, three = (epd(mixture, START, TIMES, midpoint_table(TIMES, points)) for points in (1, 3))
    torch.testing.assert_close(one, three, atol=1e-5, rtol=1e-5)


def test_round_trip(tmp_path):
    table = replace(midpoint_table(TIMES, 2), cfg=2.5, model=torch.arange(16.0))
    write_table(table, tmp_path / "table.safetensors")
    found = read_table(tmp_path / "table.safetensors")
    assert found.cfg == 2.5
    for name in ("times", "rho", "weight", "direction", "time", "model"):
        assert torch.equal(getattr(found, name), getattr(table, name))


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_safetensors({"rho": torch.ones(1)}, path, {})
    with pytest.raises(CheckpointError, match="is no EPD table"):
        read_table(path)
    with pytest.raises(CheckpointError):
        read_table(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rho": torch.ones(4, 1)}, "rho between 0 and 1"),
        ({"rho": torch.ones(3, 1) / 2}, r"rho is \(3, 1\), expected \(4, K\)"),
        ({"weight": torch.ones(4, 1) / 2}, "sum to 1"),
        ({"direction": torch.full((4, 1), float("nan"))}, "direction is"),
    ],
)
def test_tables_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(midpoint_table(TIMES), **changes)


def test_a_table_fits_its_times_cfg_and_model():
    torch.manual_seed(0)
    nets = [torch.nn.Sequential(*(torch.nn.Linear(16, 16) for _ in range(8))) for _ in range(2)]
    table = replace(midpoint_table(TIMES), model=fingerprint(nets[0].named_parameters()))
    table.check(TIMES, 1.0, fingerprint(nets[0].bfloat16().named_parameters()))
    with pytest.raises(ValueError, match="another model"):
        table.check(TIMES, 1.0, fingerprint(nets[1].named_parameters()))
    with pytest.raises(ValueError, match="for cfg 1, not for 2"):
        table.check(TIMES, 2.0)
    with pytest.raises(ValueError, match="for the times 1, 0.75"):
        table.check(UNIFORM[8], 1.0)
    with pytest.raises(ValueError, match="for the times 1, 0.75"):
        epd(mixture, START, [1.0, 0.7, 0.5, 0.25, 0.0], table)
