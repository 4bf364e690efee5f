"""A state is of one training: other data, another base or another objective do not go on in its folder unawares."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from training.config.schema import ObjectiveConfig
from training.states.origin import hash_weights, trained_objective

from ..refusal import contents, error_of
from ..tiny import last_state, train, write_classes, write_picture, write_recipe

BOTH_WAYS = "another run.folder=… starts another run, resume_changed=true goes on"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"), 3)


@pytest.fixture
def recipe(data, tmp_path) -> Path:
    """Of a run that is at step 2."""
    path = write_recipe(tmp_path, data)
    assert train(path, "run.steps=2", "checkpoint.every=1000") == 0
    return path


def other_classes(folder: Path) -> Path:
    """Pictures of the same names, classes and sizes, but for one, which shows something else."""
    write_classes(folder, 3)
    write_picture(folder / "cat" / "1.png", seed=77)
    return folder


@pytest.mark.parametrize("steps", [2, 4], ids=["finished", "going on"])
def test_other_data(recipe, data, tmp_path, capsys, steps):
    other = other_classes(tmp_path / "other")
    before = contents(tmp_path / "run")
    error = error_of(capsys, train(recipe, f"data.path={other}", f"run.steps={steps}"))
    assert f"the state of step 2 is of another training: data.path={data} (" in error
    assert f", here {other} (" in error and BOTH_WAYS in error
    after = contents(tmp_path / "run")
    assert {name: after[name] for name in before if name != ".lock"} == {
        n: c for n, c in before.items() if n != ".lock"
    }


def test_data_of_other_classes(recipe, tmp_path, capsys):
    other = write_classes(tmp_path / "other", 3)
    (other / "dog").rename(other / "emu")
    error = error_of(capsys, train(recipe, f"data.path={other}", "run.steps=4", "resume_changed=true"))
    assert "the state of step 2 knows 2, but not emu" in error and "another run.folder=… starts another run" in error


def test_one_more_picture(tmp_path, capsys):
    folder = write_classes(tmp_path / "data", 3)
    recipe = write_recipe(tmp_path, folder)
    assert train(recipe, "run.steps=2") == 0
    write_picture(folder / "dog" / "new.png", seed=9)
    assert "samples=6, here 7" in error_of(capsys, train(recipe, "run.steps=4"))


def test_data_in_another_size(recipe, capsys):
    error = error_of(capsys, train(recipe, "data.resolution=12", "run.steps=4"))
    assert "data.resolution=16, here 12" in error and BOTH_WAYS in error


def test_the_same_data_elsewhere(recipe, data, tmp_path, capsys):
    other = write_classes(tmp_path / "moved", 3)
    assert train(recipe, f"data.path={other}", "run.steps=4") == 0
    assert f"data.path: {data} in the state, {other} from here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("objective.name=flow_matching", "objective.name=tim, here flow_matching"),
        ("objective.transport=vp", "objective.transport=ot_fm, here vp"),
        ("objective.derivative=jvp", "objective.derivative=dde, here jvp"),
        ("objective.guided=true", "objective.guided=False, here True"),
        ("objective.P_mean=-0.4", "objective.P_mean=0.0, here -0.4"),
        ("objective.consistency_ratio=0.2", "objective.consistency_ratio=0.1, here 0.2"),
    ],
)
def test_another_objective(recipe, tmp_path, capsys, override, told):
    error = error_of(capsys, train(recipe, override, "run.steps=4"))
    assert told in error and BOTH_WAYS in error
    assert train(recipe, override, "run.steps=3", "resume_changed=true") == 0
    output = capsys.readouterr().out
    assert told in output and "the run goes on, as resume_changed=true says" in output
    assert last_state(tmp_path / "run")["step"] == 3
    assert train(recipe, override, "run.steps=4") == 0  # the state is of the new objective now
    assert "another training" not in capsys.readouterr().out


@pytest.mark.parametrize("override", ["objective.batched=false", "objective.power=2", "objective.P_mean=0.0"])
def test_settings_that_change_nothing(recipe, override):
    assert train(recipe, override, "run.steps=3") == 0


def test_another_base_checkpoint(data, tmp_path, capsys):
    for name, seed in (("a", 1), ("b", 2)):
        assert train(write_recipe(tmp_path, data, name), "run.steps=1", f"run.seed={seed}") == 0
    a, b = (tmp_path / name / "model-raw.safetensors" for name in ("a", "b"))
    recipe = write_recipe(tmp_path, data)
    lora = ("model.lora_rank=2", "run.steps=2")
    assert train(recipe, *lora, f"model.checkpoint={a}") == 0
    capsys.readouterr()
    error = error_of(capsys, train(recipe, *lora, f"model.checkpoint={b}"))
    assert f"model.checkpoint={a} (" in error and f", here {b} (" in error and BOTH_WAYS in error
    moved = a.rename(tmp_path / "moved.safetensors")
    assert "model-raw.safetensors: no such file" in error_of(capsys, train(recipe, *lora, f"model.checkpoint={a}"))
    assert train(recipe, "model.lora_rank=2", "run.steps=3", f"model.checkpoint={moved}") == 0


def test_a_base_that_comes_later(recipe, data, tmp_path, capsys):
    """It was left out without a word: the weights are those of the state."""
    assert train(write_recipe(tmp_path, data, "base"), "run.steps=1") == 0
    capsys.readouterr()
    base = tmp_path / "base" / "model-raw.safetensors"
    error = error_of(capsys, train(recipe, f"model.checkpoint={base}", "run.steps=4"))
    assert f"model.checkpoint=none, here {base} (" in error


def test_a_state_to_start_another_run_from(recipe, tmp_path, capsys):
    """It is the same training in another folder; for another one there is model.checkpoint."""
    resume = (f"resume={tmp_path / 'run'}", f"run.folder={tmp_path / 'new'}", "run.steps=4")
    error = error_of(capsys, train(recipe, *resume, "objective.name=flow_matching"))
    assert BOTH_WAYS in error and "training.export" in error and "model.checkpoint" in error
    assert not (tmp_path / "new").exists()
    assert train(recipe, *resume) == 0


def write_as_before(folder: Path) -> None:
    """The newest state as it was written before states recorded where they come from."""
    path = max((folder / "states").glob("*.pt"))
    state = torch.load(path, weights_only=True)
    for key in ("origin", "steps_per_epoch", "held_out", "numbers"):
        del state[key]
    torch.save(state, path)


def test_states_written_before(recipe, tmp_path, capsys):
    write_as_before(tmp_path / "run")
    error = error_of(capsys, train(recipe, "objective.name=flow_matching", "run.steps=4"))
    assert "objective.name=tim, here flow_matching" in error
    other = other_classes(tmp_path / "other")
    assert f"here {other} (" in error_of(capsys, train(recipe, f"data.path={other}", "run.steps=4"))
    assert train(recipe, "run.steps=4", "data.held_out=2") == 0
    assert "the state does not record which samples were held out" in capsys.readouterr().out
    write_as_before(tmp_path / "run")
    assert train(recipe, "run.steps=6") == 0
    assert "objective.name" in last_state(tmp_path / "run")["origin"]


# ---------------------------------------------------------------------- settings that may change


def test_optimizer_settings_of_the_config_hold(recipe, tmp_path, capsys):
    options = ("optimizer.betas=[0.8, 0.9]", "optimizer.weight_decay=0.5", "optimizer.eps=1e-3", "optimizer.lr=2e-3")
    assert train(recipe, "run.steps=3", *options) == 0
    decayed, others = last_state(tmp_path / "run")["optimizer"]["param_groups"]
    assert list(decayed["betas"]) == list(others["betas"]) == [0.8, 0.9]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert decayed["eps"] == others["eps"] == 1e-3 and decayed["lr"] == 2e-3
    lines = capsys.readouterr().out.splitlines()
    assert "optimizer.betas: [0.9, 0.95] in the state, [0.8, 0.9] from here" in lines
    assert "optimizer.weight_decay: 0.01 in the state, 0.5 from here" in lines
    assert "optimizer.eps: 1e-06 in the state, 0.001 from here" in lines
    assert "optimizer.lr: 0.001 in the state, 0.002 from here" in lines
    assert sum(line.startswith("optimizer.") for line in lines) == 4


def test_another_batch_size_moves_the_epoch(recipe, capsys):
    assert train(recipe, "run.steps=3", "data.batch_size=2") == 0  # 5 pictures of one size and 1 of another
    output = capsys.readouterr().out
    assert "data.batch_size: 6 in the state, 2 from here" in output
    assert "an epoch had 2 steps and has 4 from here: step 2 was at epoch 1.00 and is at 0.50" in output


def test_held_out_samples_that_have_been_trained_on(recipe, capsys):
    assert train(recipe, "run.steps=3", "data.held_out=2") == 0
    assert "2 of 2 held-out samples were not held out before" in capsys.readouterr().out
    assert train(recipe, "run.steps=4", "data.held_out=2") == 0
    assert "not held out" not in capsys.readouterr().out


def test_nothing_changed_nothing_said(recipe, capsys):
    assert train(recipe, "run.steps=2", "checkpoint.every=1000", "run.steps=3") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "in the state" in line]
    assert lines == ["run.steps: 2 in the state, 3 from here"]


# ---------------------------------------------------------------------- what is compared


def test_settings_that_an_objective_reads():
    tim, flow = trained_objective(ObjectiveConfig()), trained_objective(ObjectiveConfig(name="flow_matching"))
    assert {"derivative", "epsilon", "cosine"} <= tim.keys() and not {"derivative", "epsilon", "cosine"} & flow.keys()
    assert "w_cond" not in tim and "w_cond" in trained_objective(ObjectiveConfig(guided=True))
    assert "epsilon" not in trained_objective(ObjectiveConfig(derivative="jvp"))
    assert (tim["P_mean"], tim["P_std"]) == (0.0, 1.6)
    assert trained_objective(ObjectiveConfig(transport="vp", P_mean=3.0))["P_mean"] is None  # uniform times


def test_hash_of_weights():
    a, b = torch.arange(3.0), torch.zeros(2, 2, dtype=torch.bfloat16)
    assert hash_weights({"a": a, "b": b}) == hash_weights({"b": b, "a": a.clone()})
    others = [{"a": a, "b": b.float()}, {"a": a + 1e-6, "b": b}, {"a": a, "c": b}, {"a": a, "b": b.flatten()}]
    assert len({hash_weights(weights) for weights in others} - {hash_weights({"a": a, "b": b})}) == 4
