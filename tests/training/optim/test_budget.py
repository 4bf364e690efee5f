"""A run that its time will cut short says so early, and at its end."""

from __future__ import annotations

import re

import pytest

from tests.training.tiny import ROOT, train, write_classes, write_recipe
from training.config.load import load_config
from training.config.schema import OptimizerConfig
from training.optim.budget import Budget, last_step
from training.optim.learning_rate import learning_rate

COSINE = OptimizerConfig(lr=2e-3, warmup=200, schedule="cosine")


def simulate(budget: Budget, durations: list[float], step: int = 0, seconds: float = 0.0) -> tuple[str, float]:
    """The first warning of a session whose steps take `durations`, and its seconds until then."""
    start = seconds
    for duration in durations:
        step, seconds = step + 1, seconds + duration
        if warning := budget.warning(step, seconds):
            return warning, seconds - start
    return "", seconds - start


def forecast(warning: str) -> int:
    return int(re.search(r"at about step (\d+) of", warning)[1])


@pytest.mark.parametrize("pace", [0.9, 10.0, 20.0])
def test_a_run_that_will_be_cut_says_so_within_a_minute(pace):
    """The forecast is the step at which it then ends, although the first step takes three times as long."""
    limit = 20 * pace * 60
    budget = Budget(3000, limit / 60, COSINE, 32)
    durations = [pace * (3 if pace < 20 else 1), *[pace] * 3000]
    warning, after = simulate(budget, durations)
    assert after <= 60
    end, seconds = 0, 0.0
    while seconds < limit:
        end, seconds = end + 1, seconds + durations[end]
    assert abs(forecast(warning) - end) <= 1  # for the sum of floats


def test_the_warning_names_rate_and_remedies():
    warning, _ = simulate(Budget(3000, 38, COSINE, 32, "run.precision=auto"), [10.0] * 20)
    assert warning.count("\n") == 0
    rate = learning_rate(COSINE, 228, 3000, 32)
    for part in ("run.max_minutes=38 ", "step 228 of 3000 (10 s a step)", f"at {rate:.2g} (peak 0.002)"):
        assert part in warning
    assert "run.steps=217 lets it fall, run.max_minutes=525 makes all steps, or run.precision=auto" in warning


def test_what_is_advised_is_enough():
    """The same pace with the steps or the minutes of the advice gives no warning."""
    warning, _ = simulate(Budget(3000, 38, COSINE, 32), [10.0] * 20)
    steps = int(re.search(r"run\.steps=(\d+)", warning)[1])
    minutes = float(re.search(r"run\.max_minutes=(\d+) makes", warning)[1])
    assert simulate(Budget(steps, 38, COSINE, 32), [10.0] * steps)[0] == ""
    assert simulate(Budget(3000, minutes, COSINE, 32), [10.0] * 3000)[0] == ""


def test_it_is_told_once():
    budget = Budget(3000, 38, COSINE, 32)
    assert simulate(budget, [10.0] * 20)[0]
    assert simulate(budget, [10.0] * 20, 20, 200.0)[0] == ""


@pytest.mark.parametrize("slow", [[45.0], [45.0, 25.0], [45.0, 1.0, 12.0], [1.0] * 9 + [100.0]])
def test_slow_first_steps_and_validation_are_no_pace(slow):
    """Compilation, caches and a held-out loss among steps of a second, 2,000 in 38 minutes."""
    assert simulate(Budget(2000, 38, COSINE, 32), slow + [1.0] * 1900)[0] == ""


def test_a_run_that_gets_slower_is_told_later():
    warning, after = simulate(Budget(2000, 38, COSINE, 32), [1.0] * 600 + [2.0] * 600)
    assert after == 800 and forecast(warning) == 1440  # 700 steps, and half of the 1,480 seconds left


def test_a_resumed_run_counts_what_is_left():
    """Step 1,500 of 2,000 after 37 of 38 minutes: sixty seconds for 500 steps; after 20 minutes there is time."""
    warning, _ = simulate(Budget(2000, 38, COSINE, 32), [1.0] * 60, 1500, 37 * 60.0)
    assert forecast(warning) == 1560
    assert simulate(Budget(2000, 38, COSINE, 32), [1.0] * 500, 1500, 20 * 60.0)[0] == ""


def test_without_a_limit_nothing_is_told():
    budget = Budget(3000, 0, COSINE, 32)
    assert simulate(budget, [10.0] * 20)[0] == "" and budget.closing(20, 200.0) == ""


def test_a_constant_rate_has_nothing_to_fall():
    warning, _ = simulate(Budget(3000, 38, OptimizerConfig(), 32), [10.0] * 20)
    assert "step 228 of 3000" in warning and "rate" not in warning and "run.steps" not in warning


def test_last_step():
    assert last_step(10, 10.0, 1.0, 60.0) == 60
    assert last_step(10, 10.0, 0.7, 60.0) == 82  # 50 / 0.7 = 71.4: the step that reaches the limit is the last
    assert last_step(10, 61.0, 1.0, 60.0) == 10


def test_closing_says_that_the_rate_has_not_fallen():
    budget = Budget(3000, 38, COSINE, 32)
    closing = budget.closing(226, 2281.0)
    assert "ended the run at step 226 of 3000, with the learning rate at 0.002 (peak 0.002), not fallen" in closing
    assert "run.max_minutes=530 for all steps" in closing
    assert budget.closing(3000, 2281.0) == "" and budget.closing(226, 100.0) == ""


def test_a_run_that_time_ends_says_so(tmp_path, capsys):
    recipe = write_recipe(tmp_path, write_classes(tmp_path / "data"))
    assert train(recipe, "run.max_minutes=1e-6", "optimizer.schedule=cosine") == 0
    assert "run.max_minutes=1e-06 ended the run at step 1 of 8, with the learning rate at" in capsys.readouterr().out
    assert train(recipe, "optimizer.schedule=cosine") == 0
    assert "ended the run" not in capsys.readouterr().out


def test_fashion_cpu_ends_annealed_in_the_minutes_that_the_readme_states():
    """At 1.1 s a step, a fifth more than a CPU core without bfloat16 instructions takes in float32."""
    config = load_config(ROOT / "training" / "recipes" / "fashion_cpu.yaml")
    steps, minutes = config.run.steps, config.run.max_minutes
    assert 1.1 * steps <= 60 * minutes
    assert config.optimizer.schedule == "cosine" and learning_rate(config.optimizer, steps, steps, 32) == 0
    assert simulate(Budget(steps, minutes, config.optimizer, 32), [1.1] * steps)[0] == ""
    assert f"{steps:,} steps, at most {minutes:g} minutes on two CPU cores" in (ROOT / "README.md").read_text()
