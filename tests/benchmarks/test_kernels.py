"""Kernels and bytes of the published text layout do not grow, and the counter counts what it says."""

from __future__ import annotations

import pytest
import torch

from benchmarks.kernels import DTYPES, LAYOUT, count, fake_tensors, forward_calls
from tim_model import OFFICIAL


def test_counter():
    a, b = torch.ones(8, 4), torch.ones(4)
    counter = count(lambda: (a + b).view(4, 8).mT.add_(1))
    assert counter.launches == {"add": 1, "add_": 1}
    assert counter.bytes == {"add": 4 * (32 + 4 + 32), "add_": 4 * (32 + 32)}
    assert count(lambda: torch.empty(3) * b.expand(8, 4)[:, :3]).bytes == {"mul": 4 * (3 + 3 + 24)}


@pytest.mark.parametrize(("dtype", "first", "step"), [("float32", 972, 909), ("bfloat16", 1057, 994)])
def test_kernels_of_a_forward(dtype, first, step):
    """The first forward, and one of the others of a run, of an image and a prompt of 77 tokens at 1024 pixels."""
    with fake_tensors():
        calls = forward_calls(OFFICIAL[LAYOUT].without_projector(), 1024, 1, 77, DTYPES[dtype])
        counts = {name: count(call) for name, call in calls.items()}
    assert counts["first"].launches.total() <= first
    assert counts["step"].launches.total() <= step
    if dtype == "bfloat16":
        assert counts["first"].bytes.total() <= 7.1e9
