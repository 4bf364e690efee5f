"""What cannot fit is refused before the memory is gone."""

from __future__ import annotations

import pytest
import torch

from tim_model import OFFICIAL
from tim_model.network.memory import check_room, total_memory

CPU = torch.device("cpu")
TEXT = OFFICIAL["tim-t2i-xl-p1"]


def test_what_fits_passes(monkeypatch):
    """4096x4096 was drawn on a machine of 24 GiB, see docs/high_resolution.md."""
    monkeypatch.setattr("tim_model.network.memory.total_memory", lambda device: 24 * 2**30)
    check_room(TEXT, 1, 4096, 4096, 32, CPU)
    check_room(TEXT, 64, 512, 512, 32, CPU)


@pytest.mark.parametrize(("batch", "side"), [(4096, 1024), (64, 8192), (10**12, 32)])
def test_what_cannot_fit_is_refused(monkeypatch, batch, side):
    monkeypatch.setattr("tim_model.network.memory.total_memory", lambda device: 24 * 2**30)
    message = f"{batch} x {side}x{side} pixels: need .* GiB or more, the device cpu has 24:"
    with pytest.raises(ValueError, match=message):
        check_room(TEXT, batch, side, side, 32, CPU)


def test_total_memory_is_the_machine_s():
    assert total_memory(CPU) > 2**30
