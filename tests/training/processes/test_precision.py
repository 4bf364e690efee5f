"""run.precision: auto means bfloat16 where the device computes it natively, and says what it took."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.training.tiny import ROOT, train, write_classes, write_recipe
from training.processes.precision import choose_precision, computes_bf16, describe_precision, training_device

CPU = torch.device("cpu")
RECIPES = ROOT / "training" / "recipes"
FOR_ONE_MACHINE = [
    "fashion_cpu",
    "text_small",
    "text_lora",
    "demo/autoencoder",
    "demo/tim",
    "emoji/autoencoder",
    "emoji/tim",
]


def choice(capability: str, precision: str = "auto") -> list[str]:
    """What a process takes that may use the instructions of `capability`, and what it says about it."""
    code = (
        "import torch; from training.processes.precision import *; cpu = torch.device('cpu');"
        f"print(choose_precision('{precision}', cpu)); print(describe_precision('{precision}', cpu))"
    )
    variables = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    return subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=variables, text=True).splitlines()


@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_auto_is_fp32_on_a_cpu_without_bfloat16_instructions(capability):
    assert choice(capability) == ["fp32", "fp32 (auto: this cpu does not compute bfloat16 natively)"]
    taken, told = choice(capability, "bf16")
    assert taken == "bf16" and "run.precision=auto takes fp32" in told


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the truth is in /proc/cpuinfo")
def test_auto_follows_the_instructions_of_this_cpu():
    flags = Path("/proc/cpuinfo").read_text().split()
    usable = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    native = usable and ("avx512_bf16" in flags or "amx_bf16" in flags)
    assert computes_bf16(CPU) == native
    assert choose_precision("auto", CPU) == ("bf16" if native else "fp32")


def test_auto_is_fp32_on_devices_that_nothing_is_known_of():
    assert choose_precision("auto", torch.device("mps")) == "fp32"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an Nvidia GPU")
def test_auto_follows_the_compute_capability_of_a_gpu():
    native = torch.cuda.get_device_capability()[0] >= 8
    assert choose_precision("auto", training_device(cpu=False)) == ("bf16" if native else "fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_what_is_set_is_taken(precision):
    assert choose_precision(precision, CPU) == precision


def test_a_run_says_what_it_took(tmp_path, capsys):
    """auto trains the very weights of the precision that it names."""
    data = write_classes(tmp_path / "data")
    taken = choose_precision("auto", CPU)
    for name in ("auto", taken):
        recipe = write_recipe(tmp_path, data, name)
        assert train(recipe, f"run.precision={name}", "run.steps=2") == 0
        assert f"device: cpu, precision: {describe_precision(name, CPU)}" in capsys.readouterr().out
    raw = [(tmp_path / name / "model-raw.safetensors").read_bytes()[-4096:] for name in ("auto", taken)]
    assert raw[0] == raw[1]


def test_dry_run_says_what_it_would_take(tmp_path, capsys):
    recipe = write_recipe(tmp_path, write_classes(tmp_path / "data"))
    assert train(recipe, "run.precision=auto", "--dry-run") == 0
    assert f"precision: {describe_precision('auto', CPU)}" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_for_one_machine_take_auto(path):
    """Those for many GPUs tell it, since machines may differ."""
    run = yaml.safe_load(path.read_text())["run"]
    name = path.relative_to(RECIPES).with_suffix("").as_posix()
    if name.endswith("/language_model"):
        assert "precision" not in run
    else:
        assert run["precision"] == ("auto" if name in FOR_ONE_MACHINE else "bf16")
