"""What the network is asked for under a mask."""

from __future__ import annotations

import pytest
import torch

from tim_model import make_times
from tim_model.sampling.inpainting import masked_target


@pytest.mark.parametrize(
    ("t", "r", "target"),
    [
        (1.0, 0.5, 1.0), (0.5, 0.0, 0.5), (0.8, 0.0, 0.8), (0.3, 0.25, 0.3), (1.0, 0.25, 1.0), (0.6, 0.6, 0.6),
        (1.0, 0.0, 0.0), (1.0, 0.001, 0.001), (0.81, 0.2, 0.2),
    ],
)  # fmt: skip
def test_only_steps_from_noise_to_the_picture_are_transitions(t, r, target):
    assert masked_target(torch.tensor([t]), torch.tensor([r])).item() == pytest.approx(target)


def test_every_row_has_its_own():
    t, r = torch.tensor([1.0, 1.0, 0.4]), torch.tensor([0.5, 0.0, 0.0])
    assert masked_target(t, r).tolist() == [t[0].item(), 0.0, t[2].item()]


@pytest.mark.parametrize("steps", [2, 3, 4, 16])
def test_uniform_schedules_of_several_steps_have_no_transition(steps):
    times = torch.tensor(make_times("uniform", steps))
    assert torch.equal(masked_target(times[:-1], times[1:]), times[:-1])
