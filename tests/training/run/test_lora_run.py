"""Runs that train a LoRA: what is held, resumed, averaged and exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tim_model import TiM, TiMParams, load_checkpoint, save_checkpoint
from tim_model.lora.updates import read_lora
from training.components.parts import parameter_counts
from training.config.load import load_config
from training.export import main as export
from training.optim.lora import LoRALinear, lora_modules
from training.run.trainer import Trainer

from ..refusal import error_of
from ..tiny import last_state, start, train, write_classes, write_recipe

PARAMS = TiMParams(
    in_channels=3, patch_size=4, hidden_size=32, depth=2, num_heads=2, mlp_hidden=84, adaln_hidden=12, num_classes=2
)
LORA = ("model.lora_rank=2", "model.lora_alpha=3", "model.lora_dropout=0.2", "ema.decay=0.5", "optimizer.lr=0.02")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Data and a base whose every weight matters."""
    folder = tmp_path_factory.mktemp("lora")
    write_classes(folder / "data", 4)
    torch.manual_seed(0)
    net = TiM(PARAMS).init_weights()
    for value in net.parameters():
        torch.nn.init.normal_(value, std=0.05)
    save_checkpoint(net, folder / "base.safetensors")
    return folder


@pytest.fixture
def recipe(folder, tmp_path) -> Path:
    return write_recipe(tmp_path, folder / "data")


@pytest.fixture
def settings(folder) -> tuple[str, ...]:
    return (*LORA, f"model.checkpoint={folder / 'base.safetensors'}")


def test_an_interrupted_run_with_dropout_ends_bit_for_bit_alike(recipe, folder, tmp_path, settings):
    assert train(recipe, "run.steps=4", *settings) == 0
    other = write_recipe(tmp_path, folder / "data", "other")
    assert train(other, "run.steps=2", *settings) == 0
    assert train(other, "run.steps=4", *settings) == 0
    whole, resumed = (last_state(tmp_path / name) for name in ("run", "other"))
    for kind in (lambda s: s["net"], lambda s: s["ema"]["net"]):
        assert kind(whole).keys() == kind(resumed).keys()
        assert all(torch.equal(kind(whole)[name], kind(resumed)[name]) for name in kind(whole))
    dropped_nothing = write_recipe(tmp_path, folder / "data", "third")
    assert train(dropped_nothing, "run.steps=4", *settings, "model.lora_dropout=0") == 0
    third = last_state(tmp_path / "third")
    assert not all(torch.equal(whole["net"][name], third["net"][name]) for name in whole["net"])


def test_splitting_a_batch_drops_the_same(recipe, folder, tmp_path, settings):
    other = write_recipe(tmp_path, folder / "data", "other")
    assert train(recipe, "run.steps=2", *settings) == 0
    assert train(other, "run.steps=2", "optimizer.accumulation=3", *settings) == 0
    whole, split = (last_state(tmp_path / name)["net"] for name in ("run", "other"))
    for name, value in whole.items():
        torch.testing.assert_close(split[name], value, rtol=1e-3, atol=1e-5)


def test_two_processes_drop_and_average_the_same(recipe, folder, tmp_path, settings):
    """Guided targets too, whose network shares the frozen base with the one that is joined."""
    options = (*settings, "run.steps=2", "objective.guided=true", "run.gradient_checkpointing=true")
    assert train(recipe, *options) == 0
    process = start(write_recipe(tmp_path, folder / "data", "two"), *options, processes=2)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    one, two = (last_state(tmp_path / name) for name in ("run", "two"))
    for name, value in one["ema"]["net"].items():
        torch.testing.assert_close(two["ema"]["net"][name], value, rtol=1e-3, atol=1e-5)


def test_the_frozen_base_is_held_once_in_the_dtype_of_autocast(recipe, settings):
    run = Trainer(load_config(recipe, [*settings, "run.precision=bf16"]))
    net, average = run.learner.net, run.learner.ema.net
    for (name, value), other in zip(net.named_parameters(), average.parameters(), strict=True):
        trained = ".lora_" in name
        assert value.requires_grad == trained and (value is other) == (not trained)
        matrix = isinstance(net.get_submodule(name.rpartition(".")[0]), torch.nn.Linear) and value.ndim == 2
        assert value.dtype == (torch.bfloat16 if matrix and not trained else torch.float32)
    assert run.parts.checkpoint.state_dict == {}  # the file's tensors are let go


def test_a_base_in_bfloat16_trains_bit_for_bit_as_one_in_float32(recipe, settings):
    """Autocast would cast its matrices in every pass anyway."""
    run, whole = (Trainer(load_config(recipe, [*settings, "run.precision=bf16"])) for _ in range(2))
    for module in whole.learner.net.modules():
        for value in module.parameters(recurse=False):
            value.data = value.data.float()
    base = load_checkpoint(load_config(recipe, settings).model.checkpoint).state_dict()
    whole.learner.net.load_state_dict(base, strict=False)
    batches = list(run.parts.data.batches(0, 3, run.processes.share))
    for i, batch in enumerate(batches):
        norms = [r.learner.advance(batch, i, r.reporter.meter)[0] for r in (run, whole)]
        assert norms[0] == norms[1] > 0
    for name, module in lora_modules(run.learner.net).items():
        other = whole.learner.net.get_submodule(name)
        assert torch.equal(module.lora_B.weight, other.lora_B.weight)
        assert module.lora_B.weight.any()


def test_the_average_follows_the_updates_alone(recipe, settings):
    run = Trainer(load_config(recipe, settings))
    net, average = run.learner.net, run.learner.ema.net
    before = {name: module.lora_B.weight.clone() for name, module in lora_modules(average).items()}
    batch = next(iter(run.parts.data.batches(0, 1, run.processes.share)))
    run.learner.advance(batch, 0, run.reporter.meter)
    for name, module in lora_modules(net).items():  # the first update keeps a tenth
        expected = torch.lerp(before[name], module.lora_B.weight, 0.9)
        torch.testing.assert_close(average.get_submodule(name).lora_B.weight, expected)
        assert not torch.equal(average.get_submodule(name).lora_B.weight, module.lora_B.weight)
    assert not average.training and net.training


@pytest.mark.parametrize("objective", ["tim", "flow_matching"])
def test_guided_targets_sheets_and_held_out_loss_use_the_average(recipe, tmp_path, settings, objective):
    """In bfloat16, where the network of the sheet has matrices of two dtypes; every part runs."""
    options = ["run.precision=bf16", "objective.guided=true", f"objective.name={objective}", "data.held_out=2"]
    options += ["run.validate_every=1", "sampling.every=1", "sampling.steps=[2]", "run.steps=2"]
    options += ["run.gradient_checkpointing=true"]
    assert train(recipe, *settings, *options) == 0
    assert (tmp_path / "run" / "samples" / "step-00000002.png").is_file()


@pytest.fixture(scope="module")
def finished(folder) -> Path:
    recipe = write_recipe(folder, folder / "data", "finished")
    settings = (*LORA, f"model.checkpoint={folder / 'base.safetensors'}", "checkpoint.keep_last=9")
    assert (
        train(recipe, "run.steps=4", "checkpoint.every=1", *settings, "model.lora_targets=[mlp, blocks.0.attn.*]") == 0
    )
    return folder / "finished"


@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize(("options", "kind"), [([], "ema"), (["--raw"], "raw")])
def test_every_kept_state_can_be_exported(finished, tmp_path, step, options, kind):
    path = finished / "states" / f"step-{step:08d}.pt"
    assert export([str(path), str(tmp_path / "out.safetensors"), *options]) == 0
    state = torch.load(path, weights_only=True)
    weights = state["ema"]["net"] if kind == "ema" else state["net"]
    lora = read_lora(tmp_path / "out.safetensors")
    assert (lora.metadata["step"], lora.metadata["weights"]) == (str(step), kind)
    assert len(lora.network) == 9
    for layer, update in lora.network.items():
        assert (update.rank, update.alpha) == (2, 3.0)
        assert torch.equal(update.A, weights[f"{layer}.lora_A.weight"])
        assert torch.equal(update.B, weights[f"{layer}.lora_B.weight"])


def test_a_run_ends_with_both_files(finished):
    for kind in ("ema", "raw"):
        with safe_open(finished / f"lora-{kind}.safetensors", "pt") as file:
            assert file.metadata()["weights"] == kind
            assert "diffusion_model.blocks.0.attn.qkv_d.lora_A.weight" in file.keys()  # noqa: SIM118


def test_states_written_before_go_on_and_are_exported(finished, folder, tmp_path):
    """They told rank and alpha of all layers."""
    recipe = write_recipe(tmp_path, folder / "data")
    settings = (*LORA, f"model.checkpoint={folder / 'base.safetensors'}")
    assert train(recipe, "run.steps=2", *settings) == 0
    path = tmp_path / "run" / "states" / "step-00000002.pt"
    expected = load_file(tmp_path / "run" / "lora-raw.safetensors")
    state = torch.load(path, weights_only=True)
    torch.save({**state, "lora": {"rank": 2, "alpha": 3.0}}, path)
    assert export([str(path), str(tmp_path / "out.safetensors"), "--raw"]) == 0
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in found)
    assert train(recipe, "run.steps=3", *settings) == 0


def test_training_goes_on_from_a_file(finished, recipe, tmp_path, folder):
    base, file = folder / "base.safetensors", finished / "lora-raw.safetensors"
    options = (f"model.lora={file}", f"model.checkpoint={base}", "run.steps=1", "optimizer.lr=1e-9")
    assert train(recipe, *options) == 0
    before, after = read_lora(file), read_lora(tmp_path / "run" / "lora-raw.safetensors")
    assert before.network.keys() == after.network.keys()
    for layer, update in before.network.items():
        torch.testing.assert_close(after.network[layer].B, update.B)
        assert after.network[layer].alpha == update.alpha


def test_other_layers_than_the_state_has_are_refused(recipe, settings, capsys):
    assert train(recipe, "run.steps=1", *settings) == 0
    error = error_of(capsys, train(recipe, "run.steps=2", *settings, "model.lora_targets=[mlp]"))
    assert "the state of step 1 has lora: rank 2, alpha 3, 10 layers" in error and "6 layers" in error


REFUSED = {
    "model.lora_targets=[atention]": "'atention' is none of attention, cross_attention, mlp",
    "model.lora_targets=[blocks.*.atn.qkv]": "no linear layer of this network has such a name",
    "model.lora_dropout=1": "model.lora_dropout=1: expected a share from 0 to below 1",
    "model.lora_alpha=0": "model.lora_alpha=0: expected more than 0",
    "model.lora=none.safetensors": "none.safetensors: no such file, expected a LoRA",
    "model.checkpoint=": "model.checkpoint: is not set, expected the model that the LoRA is for",
}


@pytest.mark.parametrize("override", REFUSED)
def test_refusals_are_one_line(recipe, settings, capsys, override):
    error = error_of(capsys, train(recipe, *settings, override))
    assert REFUSED[override] in error


@pytest.mark.parametrize("setting", ["model.lora_targets=[mlp]", "model.lora_dropout=0.1"])
def test_settings_of_a_lora_without_one_are_refused(recipe, folder, capsys, setting):
    error = error_of(capsys, train(recipe, f"model.checkpoint={folder / 'base.safetensors'}", setting))
    assert "is set, but no LoRA is trained; expected model.lora_rank above 0" in error


def test_a_state_of_another_command_is_refused(tmp_path, capsys):
    torch.save({"format": 1, "step": 3, "net": {}, "ema": {"net": {}}}, tmp_path / "step-00000003.pt")
    assert export([str(tmp_path / "step-00000003.pt"), str(tmp_path / "out.safetensors")]) == 1
    assert "is no state of training.train" in capsys.readouterr().err


def test_counts_of_parameters(recipe, settings, tmp_path):
    config = load_config(recipe, settings)
    total = sum(value.numel() for value in TiM(PARAMS).parameters())
    net = Trainer(config).learner.net
    trained = sum(m.lora_A.weight.numel() + m.lora_B.weight.numel() for m in net.modules() if isinstance(m, LoRALinear))
    assert parameter_counts(PARAMS, config.model) == (trained, total)
    assert parameter_counts(PARAMS, load_config(recipe).model) == (total, total)
