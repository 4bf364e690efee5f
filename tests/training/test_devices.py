"""Steps of training on devices that this machine need not have: the same weights as on the CPU, on the device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.pretended import DeviceTensor, PretendedDevice
from tests.tim_model.golden import FOLDER, golden, relative_error
from tim_model import TRANSPORTS, TiM, load_checkpoint, save_checkpoint
from training.components.parts import build_parts
from training.config.load import load_config
from training.objectives.repa import ImageEncoder
from training.objectives.sample import Sample
from training.processes.processes import Processes
from training.run.learner import Learner
from training.run.logs import Meter
from training.run.step_loss import held_out_losses

from .losses import loss_of
from .tiny import write_classes, write_recipe

STEPS = 2
COMMON = ("optimizer.accumulation=2", "data.batch_size=6", "data.held_out=3")
RUNS: dict[str, tuple[str, ...]] = {
    "tim by dde": ("objective.derivative=dde", "objective.guided=true"),
    "tim by dde in two passes": ("objective.batched=false", "objective.shift_base=4"),
    "tim by jvp": ("objective.derivative=jvp", "objective.transport=trigflow"),
    **{name: (f"objective.name={name}",) for name in ("flow_matching", "meanflow", "modular_meanflow")},
    "split_meanflow": ("objective.name=split_meanflow",),
    "split_meanflow, guided": ("objective.name=split_meanflow", "objective.guided=true"),
    "LoRA": ("model.lora_rank=4", "model.lora_dropout=0.1", "objective.guided=true"),
    "REPA": ("objective.repa=vit_tiny_patch16_224",),
}


@pytest.fixture(autouse=True)
def encoder_at_hand(monkeypatch) -> None:
    """Random weights, the same ones each time, in place of those that timm would download."""

    def offline(name: str, device: torch.device) -> ImageEncoder:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return ImageEncoder(name, device, pretrained=False)

    monkeypatch.setattr("training.run.step_loss.ImageEncoder", offline)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("device")
    return write_recipe(folder, write_classes(folder / "data", count=5))


def learn(recipe: Path, overrides: tuple[str, ...], device: torch.device | None = None) -> tuple[Learner, list[float]]:
    """A learner after `STEPS` steps, and the numbers that it tells: norms of gradients, losses, held-out losses."""
    if any("lora" in override for override in overrides):
        overrides = (*overrides, f"model.checkpoint={write_base(recipe)}")
    config = load_config(recipe, [*COMMON, *overrides])
    parts = build_parts(config)
    processes = Processes(config.run)
    if device is not None:
        processes.device = processes.accelerator.state.device = device
    learner, meter = Learner(config, parts, processes), Meter()
    told = []
    for step, batch in enumerate(parts.data.batches(0, STEPS, processes.share)):
        norm, lr = learner.advance(batch, step, meter)
        meter.end_step(norm, lr, 1.0)
        told.append(norm)
    numbers = meter.take(processes)
    told += [numbers[name] for name in ("loss", "denoising_loss", "proj_loss")]
    told += held_out_losses(learner.loss, learner.ema.net, parts.data.held_out_batches(4), processes.device).values()
    assert learner.finite()
    return learner, told


def write_base(recipe: Path) -> Path:
    """The checkpoint that a LoRA is for."""
    path = recipe.with_name("base.safetensors")
    if not path.exists():
        params = build_parts(load_config(recipe, [*COMMON])).params
        torch.manual_seed(0)
        net = TiM(params).init_weights()
        torch.nn.init.normal_(net.final_layer.linear.weight, std=0.1)
        save_checkpoint(net, path)
    return path


@pytest.mark.parametrize("kind,name", [*(("mps", name) for name in RUNS), ("cuda", "LoRA")])
def test_steps_are_those_of_the_cpu(recipe, kind, name):
    expected, told_expected = learn(recipe, RUNS[name])
    with PretendedDevice(kind) as device:
        found, told = learn(recipe, RUNS[name], device.device)
    assert told == pytest.approx(told_expected, rel=1e-3, abs=1e-5)
    for net, net_expected in ((found.net, expected.net), (found.ema.net, expected.ema.net)):
        for (weight, value), value_expected in zip(net.named_parameters(), net_expected.parameters(), strict=True):
            assert isinstance(value, DeviceTensor) and value.device == device.device, weight
            torch.testing.assert_close(value.values, value_expected.detach(), rtol=1e-3, atol=2e-4, msg=weight)
    moments = [value for state in found.optimizer.state.values() for value in state.values() if value.ndim]
    assert moments and {value.device for value in moments} == {device.device}


@pytest.mark.parametrize("name", [name for name in RUNS if name != "REPA"])
def test_no_pass_of_a_step_waits_for_the_device(recipe, name):
    """From a batch to its gradient no value is read and nothing is copied to the CPU."""
    config = load_config(recipe, [*COMMON, *(override for override in RUNS[name] if "lora" not in override)])
    parts, processes = build_parts(config), Processes(config.run)
    with PretendedDevice("cuda") as device:
        processes.device = processes.accelerator.state.device = device.device
        learner = Learner(config, parts, processes)
        batch = next(iter(parts.data.batches(0, 1, processes.share))).to(processes.device)
        device.read, device.copied = 0, []
        for part in batch.split(2):
            learner.loss.total(learner.loss(learner.net, part, 0)).backward()
        assert (device.read, device.copied) == (0, [])


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("derivative", ["dde", "jvp"])
def test_loss_of_every_transport_is_that_of_the_cpu(derivative, transport):
    g = golden("training")
    net = load_checkpoint(FOLDER / "t2i_weights.safetensors")
    moved = TiM(net.params)
    t, r = TRANSPORTS[transport].T_max * g["t"].clamp(0.1, 0.9), TRANSPORTS[transport].T_max * g["r"].clamp(0.05, 0.5)
    sample = Sample(g["x"], g["z"], t, torch.minimum(t, r), g["y"], h_target=g["h_target"])
    settings = {"transport": transport, "derivative": derivative, "epsilon": 0.05}
    with PretendedDevice("mps") as device:
        moved.to(device.device).load_state_dict(net.state_dict())
        values = {
            name: device.put(value) if isinstance(value, torch.Tensor) else value
            for name, value in vars(sample).items()
        }
        found = loss_of(moved, Sample(**values), **settings)
        assert {value.device for value in vars(found).values()} == {device.device}
    expected = loss_of(net, sample, **settings)
    for name, value in vars(expected).items():
        # dde divides a difference of rounded numbers by a small time, of edm and ve at times far from 0 above all
        assert relative_error(getattr(found, name).values.float(), value.float()) <= 0.02, name
