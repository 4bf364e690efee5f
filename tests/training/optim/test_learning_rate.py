"""Schedules of the learning rate against those of diffusers, and at the steps where they are known."""

from __future__ import annotations

import pytest
import torch
from diffusers import optimization as reference

from training.config.schema import OptimizerConfig
from training.optim.learning_rate import learning_rate

STEPS, WARMUP = 37, 5
CASES = {
    "linear": (OptimizerConfig(schedule="linear", warmup=WARMUP), reference.get_linear_schedule_with_warmup, {}),
    "cosine": (OptimizerConfig(schedule="cosine", warmup=WARMUP), reference.get_cosine_schedule_with_warmup, {}),
    "cosine with restarts": (
        OptimizerConfig(schedule="cosine", warmup=WARMUP, num_cycles=4),
        reference.get_cosine_with_hard_restarts_schedule_with_warmup,
        {"num_cycles": 4},
    ),
    "polynomial": (
        OptimizerConfig(schedule="polynomial", warmup=WARMUP, power=2.5),
        reference.get_polynomial_decay_schedule_with_warmup,
        {"power": 2.5, "lr_end": 0.0},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_schedules_are_those_of_the_field(case):
    """From the end of the warm-up, which begins at 0 there and at its first step here."""
    config, make, options = CASES[case]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.lr)
    schedule = make(optimizer, num_warmup_steps=WARMUP, num_training_steps=STEPS, **options)
    factor = schedule.lr_lambdas[0]
    assert learning_rate(config, STEPS + 2, STEPS, 8) == 0
    for step in range(WARMUP, STEPS + 1):
        expected = config.lr * factor(step)
        assert learning_rate(config, step, STEPS, 8) == pytest.approx(expected, rel=1e-12, abs=1e-18), step


def test_warmup_ends_at_the_whole_rate():
    config = OptimizerConfig(schedule="linear", warmup=4, lr=1.0)
    assert [learning_rate(config, step, 12, 8) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 0.875]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "polynomial"])
def test_cycles_start_again_at_the_whole_rate(schedule):
    """Seven cycles of seven steps: sevenths are no exact floating-point numbers."""
    config = OptimizerConfig(schedule=schedule, num_cycles=7, lr=1.0)
    rates = [learning_rate(config, step, 49, 8) for step in range(50)]
    assert all(rates[7 * k : 7 * k + 7] == rates[:7] for k in range(7))
    assert rates[0] == 1 and rates[:7] == sorted(rates[:7], reverse=True) and rates[49] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_cycles": 0}, "num_cycles=0 with schedule=constant: expected a whole number from 1"),
        ({"num_cycles": 2}, "num_cycles=2 with schedule=constant: .* and one of cosine, linear, polynomial"),
        ({"power": 2.0, "schedule": "cosine"}, "power=2 with schedule=cosine: expected a number above 0, and polynom"),
        ({"power": 0.0, "schedule": "polynomial"}, "power=0 with schedule=polynomial"),
    ],
)
def test_settings_that_a_schedule_does_not_read(options, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**options)
