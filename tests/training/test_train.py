"""The training command: learns, resumes bit for bit, joins processes, stops when it must."""

from __future__ import annotations

import random
import re
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from tim_model import load_checkpoint
from tim_model.checkpoint import read_checkpoint
from training.config.load import load_config
from training.objectives.repa import ImageEncoder
from training.run.logs import read_csv
from training.run.trainer import Trainer
from training.states.states import read_state

from .tiny import last_state, start, train, write_classes, write_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"))


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_learns_and_writes_what_loads(data, tmp_path):
    recipe = write_recipe(tmp_path, data)
    options = ("data.held_out=4", "run.validate_every=30", "ema.decay=0.9", "optimizer.lr=3e-3")
    assert train(recipe, "run.steps=60", *options) == 0
    held_out = [float(row["held_out_loss"]) for row in read_csv(tmp_path / "run" / "log.csv") if row["held_out_loss"]]
    assert len(held_out) == 2
    assert held_out[1] < held_out[0]
    checkpoint = read_checkpoint(tmp_path / "run" / "model-ema.safetensors")
    assert checkpoint.class_names == ["cat", "dog"]
    assert checkpoint.metadata["objective"] == "tim"
    assert {"data_hash", "recipe", "step"} <= checkpoint.metadata.keys()
    net = load_checkpoint(tmp_path / "run" / "model-raw.safetensors")
    assert difference(net.state_dict(), last_state(tmp_path / "run")["net"]) == 0
    assert (tmp_path / "run" / "config.yaml").is_file()


def test_killed_twice_equals_uninterrupted(data, tmp_path):
    steps = ("run.steps=40", "optimizer.schedule=cosine", "optimizer.warmup=5", "sampling.every=4")
    whole = start(write_recipe(tmp_path, data, "whole"), *steps)
    assert whole.wait() == 0, whole.stdout.read()
    recipe = write_recipe(tmp_path, data, "killed")
    for least in (4, 16):
        process = start(recipe, *steps)
        wait_for_step(tmp_path / "killed" / "states", least, process)
        process.kill()
        process.communicate()
        assert not (tmp_path / "killed" / "model-ema.safetensors").exists()
    process = start(recipe, *steps)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert int(re.search(r"from step (\d+)", output)[1]) >= 16
    expected, found = (last_state(tmp_path / name) for name in ("whole", "killed"))
    assert found["step"] == 40
    assert difference(found["net"], expected["net"]) == 0
    assert difference(found["ema"]["net"], expected["ema"]["net"]) == 0
    for name in ("step", "loss", "denoising_loss", "grad_norm"):
        logs = ([row[name] for row in read_csv(tmp_path / run / "log.csv")] for run in ("whole", "killed"))
        assert next(logs) == next(logs)
    assert not list((tmp_path / "killed").rglob("*.tmp"))


def wait_for_step(states: Path, step: int, process) -> None:
    """Until there is a state of that step or a later one, and a little longer: a kill may come at any moment."""
    deadline = time.monotonic() + 60
    while not any(int(path.stem[5:]) >= step for path in states.glob("step-*.pt")):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "no state was written"
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.05))


def test_two_processes_equal_one(data, tmp_path):
    """Batches of 11 as 5 + 6, and the last ones of a bucket (of 12 and 4 samples) as 0 + 1 and 2 + 2."""
    options = ("run.steps=6", "data.batch_size=11", "optimizer.eps=1e-3")
    one = start(write_recipe(tmp_path, data, "one"), *options)
    assert one.wait() == 0, one.stdout.read()
    two = start(write_recipe(tmp_path, data, "two"), *options, processes=2)
    output = two.communicate()[0]
    assert two.returncode == 0, output
    assert "processes: 2" in output
    assert difference(*(last_state(tmp_path / name)["net"] for name in ("one", "two"))) < 1e-5
    assert difference(*(last_state(tmp_path / name)["ema"]["net"] for name in ("one", "two"))) < 1e-5


def test_accumulation_and_checkpointing_change_nothing(data, tmp_path):
    plain = write_recipe(tmp_path, data, "plain")
    split = write_recipe(tmp_path, data, "split")
    options = ("run.steps=3", "optimizer.eps=1e-3")
    assert train(plain, *options) == 0
    assert train(split, *options, "optimizer.accumulation=4", "run.gradient_checkpointing=true") == 0
    assert difference(*(last_state(tmp_path / name)["net"] for name in ("plain", "split"))) < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        ["objective.name=flow_matching"], ["objective.name=meanflow", "run.gradient_checkpointing=true"],
        ["objective.name=modular_meanflow", "optimizer.accumulation=2"],
        ["objective.name=split_meanflow"], ["objective.derivative=jvp"], ["objective.guided=true"],
        ["objective.transport=vp", "sampling.every=2", "sampling.steps=[1, 2]"], ["run.precision=bf16"],
        ["data.mirror=true", "data.workers=2"], ["optimizer.lr_batch=12", "objective.batched=false"],
    ],
    ids=lambda options: options[0],
)  # fmt: skip
def test_options_train(data, tmp_path, options):
    assert train(write_recipe(tmp_path, data), "run.steps=2", *options) == 0
    assert all(value.isfinite().all() for value in last_state(tmp_path / "run")["net"].values())


def test_sample_sheet(data, tmp_path):
    assert train(write_recipe(tmp_path, data), "run.steps=2", "sampling.every=2", "sampling.steps=[1, 2]") == 0
    assert [path.name for path in (tmp_path / "run" / "samples").iterdir()] == ["step-00000002.png"]


def test_bad_sheet_does_not_end_the_run(data, tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("training.run.sample_sheet.sample", full)
    assert train(write_recipe(tmp_path, data), "run.steps=2", "sampling.every=1") == 0
    assert "no sample sheet step-00000001.png: CUDA out of memory" in capsys.readouterr().out


def test_non_finite_steps_stop_the_run(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=4") == 0
    good = read_state(tmp_path / "run" / "states" / "step-00000004.pt")
    run = Trainer(load_config(recipe, ["run.steps=20", "run.max_nonfinite=3"]))
    with torch.no_grad():
        run.net.x_embedder.proj.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"3 steps in a row .* last good state is .*step-00000004\.pt"):
        run.train()
    assert difference(last_state(tmp_path / "run")["net"], good["net"]) == 0


def test_termination_saves_a_state(data, tmp_path):
    process = start(write_recipe(tmp_path, data), "run.steps=100000", "checkpoint.every=1000000")
    deadline = time.monotonic() + 60
    while not len(read_csv(tmp_path / "run" / "log.csv")) > 1:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert last_state(tmp_path / "run")["step"] > 2
    assert "the same command goes on" in output


def test_time_limit_ends_the_run_with_its_weights(data, tmp_path):
    options = ("run.max_minutes=0.002", "sampling.every=100000", "sampling.steps=[1]")
    assert train(write_recipe(tmp_path, data), "run.steps=100000", *options) == 0
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 1
    assert (tmp_path / "run" / "model-ema.safetensors").is_file()


def test_keeps_last_and_every(data, tmp_path):
    assert train(write_recipe(tmp_path, data), "checkpoint.every=1", "checkpoint.keep_every=3") == 0
    names = sorted(path.name for path in (tmp_path / "run" / "states").iterdir())
    assert names == [f"step-{step:08d}.pt" for step in (3, 6, 7, 8)]


def test_dry_run_touches_nothing(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    before = sorted(tmp_path.rglob("*"))
    assert train(recipe, "--dry-run") == 0
    assert sorted(tmp_path.rglob("*")) == before
    output = capsys.readouterr().out
    assert "batch_size: 6" in output
    assert "16x16: 12" in output and "20x12: 4" in output
    assert "2 classes" in output


def test_lora_starts_from_a_checkpoint(data, tmp_path):
    assert train(write_recipe(tmp_path, data, "base"), "run.steps=2") == 0
    base = tmp_path / "base" / "model-ema.safetensors"
    lora = ("model.lora_rank=2", f"model.checkpoint={base}", "run.steps=3", "checkpoint.every=1")
    recipe = write_recipe(tmp_path, data, "lora")
    assert train(recipe, *lora) == 0
    state = last_state(tmp_path / "lora")
    assert all("lora_" in name for name in state["net"])
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "lora" / "lora-raw.safetensors")
    assert "diffusion_model.blocks.0.attn.qkv.lora_A.weight" in weights
    assert any(value.abs().max() > 0 for name, value in weights.items() if "lora_B" in name)
    assert train(recipe, *lora[:2], "run.steps=4") == 0  # resumes


def test_repa_head_learns_and_is_not_exported(data, tmp_path, monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.setattr("training.run.step_loss.ImageEncoder", partial(ImageEncoder, pretrained=False))
    options = ("objective.repa=vit_tiny_patch16_224", "run.steps=2", "optimizer.accumulation=2")
    assert train(write_recipe(tmp_path, data), *options) == 0
    assert "projector.0.weight" in last_state(tmp_path / "run")["net"]
    assert float(read_csv(tmp_path / "run" / "log.csv")[-1]["proj_loss"]) > 0
    assert load_checkpoint(tmp_path / "run" / "model-ema.safetensors").params.z_dim is None
