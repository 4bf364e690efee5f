"""Cost and agreement of the ways to compute dF/dt: dde in one call of the network, dde in two, and jvp.

Speed and memory are those of whole training steps of the network in `training/recipes/fashion_cpu.yaml` on random
images; all methods take turns in one process, and the memory of each is measured in a fresh one. Agreement is that
of the golden networks in tests/golden: cosines of dF/dt, and of the gradient of the loss, with those by jvp in float32.

    OMP_NUM_THREADS=1 python -m benchmarks.derivatives --batch 64 --turns 7
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while waiting are slow on a busy machine

import argparse
import statistics
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from torch import Tensor

from benchmarks.full_size import peak_gib
from tests.tim_model.golden import FOLDER, golden_case
from tim_model import TRANSPORTS, TiM, load_checkpoint
from training.components.parts import base_params
from training.config.load import load_config
from training.config.schema import ObjectiveConfig
from training.data.batches import Batch
from training.objectives.derivative import configured_derivative, total_derivative
from training.objectives.objectives import make_objective
from training.objectives.sample import Sample
from training.optim.optimizer import make_optimizer
from training.run.step_loss import StepLoss

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "training" / "recipes" / "fashion_cpu.yaml"
CLASSES = 10
METHODS = {  # derivative and batched
    "dde": ("dde", True),
    "dde-in-two": ("dde", False),
    "jvp": ("jvp", False),
}
PRECISIONS = ("fp32", "bf16")
EPSILONS = (0.005, 0.02)  # as published, and as the recipe has it
PEAK_STEPS = 3


def precise(precision: str) -> AbstractContextManager:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


class Step:
    """One training step of the recipe: loss, gradient, optimizer."""

    def __init__(self, method: str, precision: str, batch: int):
        derivative, batched = METHODS[method]
        overrides = [f"objective.derivative={derivative}", f"objective.batched={str(batched).lower()}"]
        config = load_config(RECIPE, overrides)
        torch.manual_seed(0)
        self.net = TiM(replace(base_params(config, None), num_classes=CLASSES))
        self.net.init_weights()
        self.optimizer = make_optimizer(self.net, config.optimizer.lr)
        self.loss = StepLoss(config, self.net, config.model.patch_size, torch.device("cpu"))
        self.precision = precision
        side, labels = config.data.resolution, torch.arange(batch) % CLASSES
        null, positions = torch.full_like(labels, CLASSES), torch.arange(batch)
        self.batch = Batch(torch.randn(batch, 3, side, side), labels, null, positions, None, batch, batch)

    def __call__(self, step: int) -> float:
        """Processor seconds over threads, which other work on the machine does not change."""
        start = time.process_time()
        with precise(self.precision):
            out = self.loss(self.net, self.batch, step)
        out.weighted_loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return (time.process_time() - start) / torch.get_num_threads()


def speeds(batch: int, turns: int) -> dict[tuple[str, str], float]:
    """Samples a second of each method and precision, from the median of their steps, taken in turns after a first."""
    steps = {(method, precision): Step(method, precision, batch) for precision in PRECISIONS for method in METHODS}
    seconds = {key: [] for key in steps}
    for turn in range(turns + 1):
        for key, step in steps.items():
            seconds[key].append(step(turn))
    return {key: batch / statistics.median(times[1:]) for key, times in seconds.items()}


def peak(method: str, precision: str, batch: int) -> float:
    """Peak memory in MiB of a few steps in a fresh process, above what it had before them."""
    command = [sys.executable, "-m", "benchmarks.derivatives", "--peak", method, precision, "--batch", str(batch)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def print_own_peak(method: str, precision: str, batch: int) -> None:
    step, process = Step(method, precision, batch), psutil.Process()
    before = process.memory_info().rss / 2**20
    for turn in range(PEAK_STEPS):
        step(turn)
    print(peak_gib(process) * 2**10 - before)


def derivative_and_gradient(kind: str, method: str, precision: str, epsilon: float) -> tuple[Tensor, Tensor]:
    """dF/dt of a golden network, and the gradient of its loss over all weights, both flat."""
    net = load_checkpoint(FOLDER / f"{kind}_weights.safetensors").requires_grad_(True)
    g = golden_case(f"{kind}_forward", 0)
    x, context = g["x"], g["y"] if kind == "t2i" else g["label"]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    t, r = torch.linspace(0.4, 0.9, len(x)), torch.linspace(0.1, 0.3, len(x))
    derivative, batched = METHODS[method]
    config = ObjectiveConfig(derivative=derivative, epsilon=epsilon, batched=batched)
    path, sample = TRANSPORTS[config.transport], Sample(x, noise, t, r, context)
    with precise(precision):
        dF_dt = total_derivative(net, path, sample, configured_derivative(config))
        loss = make_objective(config)(net, path, sample).weighted_loss
    gradient = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    return dF_dt.float().flatten(), torch.cat([value.flatten() for value in gradient if value is not None])


def print_agreement() -> None:
    print(f"\n{'network':8}{'precision':>10}{'method':>12}{'epsilon':>9}{'cos dF/dt':>12}{'cos gradient':>14}")
    for kind in ("t2i", "c2i"):
        exact = derivative_and_gradient(kind, "jvp", "fp32", EPSILONS[0])
        for precision in PRECISIONS:
            for method in METHODS:
                for epsilon in EPSILONS if method != "jvp" else EPSILONS[:1]:
                    found = derivative_and_gradient(kind, method, precision, epsilon)
                    cosines = (
                        torch.cosine_similarity(a.double(), b.double(), dim=0)
                        for a, b in zip(found, exact, strict=True)
                    )
                    shown = epsilon if method != "jvp" else "-"
                    print(f"{kind:8}{precision:>10}{method:>12}{shown:>9}" + "{:>12.6f}{:>14.6f}".format(*cosines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--peak", nargs=2, metavar=("METHOD", "PRECISION"), help="print the memory of one alone")
    a = parser.parse_args()
    if a.peak:
        print_own_peak(*a.peak, a.batch)
        return
    print(f"batch {a.batch}, threads {torch.get_num_threads()}, steps in {a.turns} turns")
    print(f"{'precision':10}{'method':>12}{'samples/s':>11}{'of jvp':>8}{'peak MiB':>10}", flush=True)
    found = speeds(a.batch, a.turns)
    for (method, precision), speed in found.items():
        ratio = speed / found["jvp", precision]
        memory = peak(method, precision, a.batch)
        print(f"{precision:10}{method:>12}{speed:>11.1f}{ratio:>8.2f}{memory:>10.0f}", flush=True)
    print_agreement()


if __name__ == "__main__":
    main()
