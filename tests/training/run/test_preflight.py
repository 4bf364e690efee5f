"""A dry run: it refuses what the run would refuse, shows the config whatever is wrong, and counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tim_model.gemma import write_gemma
from tim_model import TiM, TiMParams
from training.run.memory import activation_bytes
from training.states.states import States

from ..refusal import error_of
from ..tiny import train, write_classes, write_picture, write_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"))


REFUSALS = {
    "sampling.size=[17, 16]": "size 17x16: expected multiples of 4",
    "sampling.classes=[emu]": "class 'emu': expected a number from 0 to 1",
    "sampling.prompts=[a cat]": "sampling.prompts: is for captions",
    "run.precision=fp16": "run.precision=fp16",
    "data.held_out=16": "data.held_out=16: expected fewer than the 16 samples",
    "model.lora_rank=2": "model.checkpoint: is not set",
    "resume=nowhere.pt": "no such state",
    "data.path=nowhere": "nowhere",
    "model.vae=nowhere": "nowhere: no such file",
}


@pytest.mark.parametrize("override", REFUSALS)
def test_refuses_what_the_run_would_after_the_config(data, tmp_path, capsys, override):
    recipe = write_recipe(tmp_path, data)
    before = sorted(tmp_path.rglob("*"))
    status = train(recipe, "sampling.every=2", override, "--dry-run")
    printed = capsys.readouterr()
    assert status == 1 and "batch_size: 6" in printed.out
    lines = [line for line in printed.err.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and REFUSALS[override] in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_cache_that_is_a_file(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    for option in ("--dry-run", "run.steps=1"):
        error = error_of(capsys, train(recipe, f"data.cache={recipe}", option))
        assert f"data.cache={recipe}: is a file, expected a folder or a new name" in error


def test_run_that_has_come_to_its_end(data, tmp_path, capsys):
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=2") == 0
    for options, told in {
        ("run.steps=2",): "from step 2: nothing would be trained, run.steps=2; a larger run.steps goes on",
        (
            "run.steps=4",
            "run.max_minutes=0.00001",
        ): "is trained, run.max_minutes=1e-05; a larger run.max_minutes goes on",
        ("run.steps=4",): "from step 2",
    }.items():
        capsys.readouterr()
        assert train(recipe, *options, "--dry-run") == 0
        assert [line for line in capsys.readouterr().out.splitlines() if told in line]


def test_state_of_another_network(data, tmp_path, capsys):
    """A dry run and a run refuse it alike, before anything is encoded."""
    recipe = write_recipe(tmp_path, data)
    assert train(recipe, "run.steps=1") == 0
    lora = [f"model.checkpoint={tmp_path / 'run' / 'model-ema.safetensors'}", f"run.folder={tmp_path / 'lora'}"]
    assert train(recipe, *lora, "model.lora_rank=2", "run.steps=1") == 0
    for options, told in {
        ("model.hidden_size=64",): "the state of step 1 has params {'hidden_size': 32",
        (*lora, "model.lora_rank=4"): "the state of step 1 has lora: rank 2",
        (*lora,): "the state of step 1 has lora: rank 2",
    }.items():
        for more in (["--dry-run"], []):
            capsys.readouterr()
            error = error_of(capsys, train(recipe, *options, "run.steps=2", *more))
            assert told in error and "another run.folder=… starts another run" in error


@pytest.mark.parametrize("options", [["--dry-run"], []], ids=["dry", "run"])
def test_state_of_another_command(data, tmp_path, capsys, options):
    path = States(tmp_path / "vae" / "states", 1, 0).save({"step": 3, "seconds": 1.0, "net": {}, "ema": {}})
    error = error_of(capsys, train(write_recipe(tmp_path, data), f"resume={tmp_path / 'vae'}", *options))
    assert (
        f"{path}: is no state of training.train, lacks failures, optimizer, scaler, random, params, metadata" in error
    )


def test_sheet_that_does_not_fit_is_refused_before_encoding(tmp_path, capsys):
    for i in range(2):
        write_picture(tmp_path / "data" / f"{i}.png", seed=i).with_suffix(".txt").write_text(f"caption {i}")
    recipe = write_recipe(tmp_path, tmp_path / "data")
    options = [f"model.text_encoder={write_gemma(tmp_path / 'gemma')}", "sampling.every=1", "sampling.prompts=[a]"]
    assert "size 17x16" in error_of(capsys, train(recipe, *options, "sampling.size=[17, 16]"))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_counts_of_captions(tmp_path, capsys):
    """Three captions, one of them of more tokens than the encoder takes: told by the dry run, data.txt and the run."""
    captions = ["a fox", "two oxen", "fox " * 300]
    for i, caption in enumerate(captions):
        write_picture(tmp_path / "data" / f"{i}.png", seed=i).with_suffix(".txt").write_text(caption)
    recipe = write_recipe(tmp_path, tmp_path / "data")
    encoder = f"model.text_encoder={write_gemma(tmp_path / 'gemma')}"
    assert train(recipe, encoder, "--dry-run") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("captions: ")]
    assert line.startswith("captions: 3 different, the longest of ")
    assert line.endswith(" tokens, 1 of more than 256, whose ends are cut off")
    assert train(recipe, encoder, "run.steps=1") == 0
    assert line in capsys.readouterr().out.splitlines()
    assert line in (tmp_path / "run" / "data.txt").read_text().splitlines()


def test_counts_of_classes(data, tmp_path, capsys):
    options = ("data.batch_size=2", "optimizer.accumulation=3")
    assert train(write_recipe(tmp_path, data), *options, "--dry-run") == 0
    output = capsys.readouterr().out
    assert "tokens an image: 16x16: 16, 20x12: 15" in output
    assert "M of 0.06M parameters" in output and "trained: 0.06M" in output
    assert "note: optimizer.accumulation=3, but a process has 2 samples: 2 passes" in output
    assert "memory: about 0.0" in output


def test_activations_are_counted_as_autograd_keeps_them():
    """Twice as much for twice the batch, and less in bfloat16."""
    params = TiMParams(
        in_channels=3, patch_size=4, hidden_size=32, depth=2, num_heads=2, mlp_hidden=85, adaln_hidden=10, num_classes=2
    )
    one, two, four = (activation_bytes(TiM(params, device="meta"), rows, (3, 16, 16), 0) for rows in (1, 2, 4))
    assert 1.9 < four / two <= 2 < two / one  # a sample alone is modulated by the kernel that normalizes it
    like = TiM(params, device="meta").to(torch.bfloat16)
    assert activation_bytes(like, 4, (3, 16, 16), 0) < 0.7 * four
