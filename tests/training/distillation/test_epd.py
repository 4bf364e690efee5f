"""training.epd: tables that bring a sampler nearer to a finer run of the same model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tim_model.sampling.solvers.problems import SHIFTED, UNIFORM, error, mixture, runge_kutta
from tim_model import load_checkpoint
from tim_model.sampling.solvers.epd import epd, fingerprint, midpoint_table, read_table
from training.distillation.epd import Numbers, distill, end_error, teach
from training.epd import main

MODEL = Path(__file__).resolve().parents[3] / "models" / "diffusion_models" / "tim-fashion-mnist-c2i.safetensors"
FAST = ["--steps", "1", "--points", "1", "--iterations", "2", "--batch", "1", "--text-encoder", "", "--vae", ""]


def noise(seed: int) -> torch.Tensor:
    return torch.randn(48, 2, 1, 1, generator=torch.Generator().manual_seed(seed))


def test_the_teacher_is_near_the_exact_path():
    run = teach(mixture, noise(1), UNIFORM[8])
    assert len(run.states) == 9
    assert error(run.states[-1], runge_kutta(mixture, noise(1)).float()) < 5e-3


def test_the_loss_is_that_of_the_sampler():
    """The distance of the states that `epd` passes with the same numbers."""
    times, states = UNIFORM[4], []
    run, numbers = teach(mixture, noise(1), times), Numbers(4, 2, seed=0)
    table = numbers.table(times, torch.zeros(16), 1.0)
    epd(mixture, noise(1), times, table, report=lambda step: states.append(step.x_r))
    expected = torch.stack([(x - y).square().mean() for x, y in zip(states, run.states[1:])]).mean()
    torch.testing.assert_close(numbers.loss(run, times), expected, atol=1e-6, rtol=1e-5)


def test_a_distilled_table_beats_the_midpoint_rule_on_noise_that_it_has_not_seen():
    times = SHIFTED[4]
    runs = [teach(mixture, noise(seed), times) for seed in range(3)]
    losses: list[float] = []
    table = distill(runs, times, 2, 60, seed=0, report=losses.append).table(times, torch.zeros(16), 1.0)
    held_out = teach(mixture, noise(9), times)
    assert len(losses) == 60 and losses[-1] < losses[0]
    assert end_error(held_out, table) < 0.7 * end_error(held_out, midpoint_table(times))


def test_equal_seeds_make_equal_tables():
    runs = [teach(mixture, noise(1), UNIFORM[4])]
    first, again, other = (distill(runs, UNIFORM[4], 2, 3, seed).values()[0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_velocity_that_is_not_finite_is_an_error():
    run = teach(lambda x, t: x, noise(1), UNIFORM[4])
    broken = type(run)(lambda x, t: x * float("nan"), run.states)
    with pytest.raises(ValueError, match="loss is not finite"):
        distill([broken], UNIFORM[4], 1, 1, seed=0)


def test_the_command_writes_a_table_for_its_model(tmp_path, capsys):
    out = tmp_path / "table.safetensors"
    assert main([str(MODEL), *FAST, "--cfg", "2", "--seeds", "2", "--out", str(out)]) == 0
    assert "on held-out noise" in capsys.readouterr().out
    read_table(out).check([1.0, 0.0], 2.0, fingerprint(load_checkpoint(MODEL).named_parameters()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--points", "0"], "--points 0"),
        (["--steps", "0"], "steps=0"),
        (["--out", "table.json"], "ends in .safetensors"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, capsys, changes, message):
    out = tmp_path / "table.safetensors"
    assert main([str(MODEL), *FAST, "--out", str(out), *changes]) == 1
    found = capsys.readouterr().err
    assert message in found and found.count("\n") == 1 and not out.exists()


def test_a_file_without_prompts_is_one_line(tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n \n")
    out = ["--steps", "1", "--out", str(tmp_path / "table.safetensors"), "--prompts", str(prompts)]
    text_model = MODEL.with_name("tim-fashion-scenes-t2i.safetensors")
    assert main([str(text_model), *out]) == 1
    assert "holds no prompt" in capsys.readouterr().err
