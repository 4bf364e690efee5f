"""Trainings on Fashion-MNIST compared at equal compute: Fréchet distance and recognized labels over the step budget.

    python -m benchmarks.training_recipes published tim --minutes 10
    python -m benchmarks.training_recipes tim flow_matching meanflow split_meanflow --minutes 10 --seeds 0 1

Every run is `training/recipes/fashion_cpu.yaml` with the overrides below. The cost of a step is
measured on a few steps of each, taken in turns; then each gets as many steps as fit into the same time. Runs that were
stopped continue, finished runs are kept.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while waiting are slow on a busy machine

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from tim_model import TiM, load_checkpoint, make_times, sample
from tim_model.files.tensor_files import write_text
from tim_model.sampling.noise import draw_noise
from training.config.load import load_config
from training.data.encoded import Share
from training.evaluation.classifier import SIDE, ItemClassifier, classify, load_classifier, read_items
from training.evaluation.frechet import Statistics, frechet_distance
from training.evaluation.frechet import statistics as feature_statistics
from training.run.trainer import Trainer
from training.train import main as train

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "training" / "recipes" / "fashion_cpu.yaml"
# of the released class models; with a constant rate a run may be cut anywhere
PUBLISHED = (
    "data.batch_size=256", "optimizer.lr=1e-4", "optimizer.lr_batch=256", "optimizer.schedule=constant",
    "optimizer.warmup=0", "ema.decay=0.9999", "ema.warmup=false", "objective.epsilon=0.005", "objective.P_mean=-0.4",
    "objective.P_std=1.0", "objective.diffusion_ratio=0.5", "objective.consistency_ratio=0.1",
)  # fmt: skip
CLASSIFIER = ROOT / "models" / "evaluation" / "fashion-classifier.safetensors"
VARIANTS = {
    "published": PUBLISHED,
    "tim": (),
    "flow_matching": ("objective.name=flow_matching",),
    "meanflow": ("objective.name=meanflow",),
    "split_meanflow": ("objective.name=split_meanflow",),
}
WEIGHTS = {"published": ("ema", "raw")}  # an average this long has hardly left its start after so few steps
QUIET = ("sampling.every=0", "run.max_minutes=0", "run.validate_every=1000000", "run.tensorboard=false")
TRIALS = 3  # turns, after one to warm up
STEPS = (1, 2, 4, 8, 16)
SAMPLES = 50  # of each class


def overrides(name: str, folder: Path, data: str) -> list[str]:
    return [*VARIANTS[name], *QUIET, f"run.folder={folder}", f"data.path={data}"]


def step_seconds(names: list[str], data: str) -> dict[str, float]:
    """Median seconds of a training step of each variant, taken in turns.

    They are processor seconds over threads, which other work on the machine does not change.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: Trainer(load_config(RECIPE, overrides(name, Path(folder) / name, data))) for name in names}
        batches = {name: run.parts.data.batches(0, TRIALS + 1, Share()) for name, run in runs.items()}
        seconds = {name: [] for name in names}
        for _ in range(TRIALS + 1):
            for name, run in runs.items():
                batch = next(batches[name])
                start = time.process_time()
                run.advance(batch)
                seconds[name].append((time.process_time() - start) / torch.get_num_threads())
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def plan(names: list[str], minutes: float, folder: Path, data: str) -> dict[str, int]:
    """The steps of each variant, remembered in the folder so that all seeds and later calls share them."""
    path = folder / "plan.json"
    steps = json.loads(path.read_text()) if path.is_file() else {}
    if missing := [name for name in names if name not in steps]:
        seconds = step_seconds(missing, data)
        steps |= {name: max(1, round(minutes * 60 / seconds[name])) for name in missing}
        write_text(path, json.dumps(steps))
    return steps


def draw(net: TiM, steps: int, velocity: bool, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gray images in [0, 1] (N,1,32,32), unguided, and their labels; the same noise for every network and budget."""
    labels = torch.arange(net.params.num_classes).repeat_interleave(SAMPLES)
    noise = draw_noise((len(labels), net.params.in_channels, SIDE, SIDE), seed)
    drawn = []
    for x, context in zip(noise.split(SAMPLES), labels.split(SAMPLES), strict=True):
        null = torch.full_like(context, net.params.num_classes)
        drawn.append(sample(net, x, make_times("uniform", steps), context, null, cfg=1.0, velocity=velocity))
    return (torch.cat(drawn).mean(dim=1, keepdim=True) / 2 + 0.5).clamp(0, 1), labels


def scores(path: Path, velocity: bool, classifier: ItemClassifier, real: Statistics) -> dict[str, list[float]]:
    """Fréchet distance and share of recognized labels of a checkpoint at each number of `STEPS`."""
    net = load_checkpoint(path)
    found: dict[str, list[float]] = {"frechet": [], "recognized": []}
    for steps in STEPS:
        gray, labels = draw(net, steps, velocity)
        logits, features = classify(classifier, gray)
        found["frechet"].append(frechet_distance(feature_statistics(features), real))
        found["recognized"].append(float((logits.argmax(dim=1) == labels).float().mean()))
    return found


def run_variant(name: str, seed: int, steps: int, folder: Path, data: str) -> Path:
    """Train, or go on training; returns the folder of the run."""
    own = folder / f"{name}-{seed}"
    if not (own / "model-raw.safetensors").is_file():  # the last that a run writes
        saving = ("checkpoint.every=200", "checkpoint.keep_last=1")
        options = [*overrides(name, own, data), f"run.steps={steps}", f"run.seed={seed}", *saving]
        if train([str(RECIPE), *options]):
            raise SystemExit(f"{name}, seed {seed}: the training failed")
    return own


def table(results: dict[str, list[dict[str, list[float]]]]) -> str:
    """Markdown: distance / share of recognized labels, means over the seeds, with the range of the distance."""
    lines = [f"| | {' | '.join(map(str, STEPS))} |", f"|---|{'---|' * len(STEPS)}"]
    for name, found in results.items():
        cells = []
        for i in range(len(STEPS)):
            distances = [seed["frechet"][i] for seed in found]
            spread = f" ({min(distances):.1f}-{max(distances):.1f})" if len(found) > 1 else ""
            recognized = statistics.mean(seed["recognized"][i] for seed in found)
            cells.append(f"{statistics.mean(distances):.1f}{spread} / {recognized:.2f}".replace(" 0.", " ."))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="+", choices=VARIANTS, metavar="variant", help=", ".join(VARIANTS))
    parser.add_argument("--minutes", type=float, default=10, help="of training for each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--classifier", type=Path, default=CLASSIFIER, help="a file of training.classifier")
    a = parser.parse_args()
    a.folder.mkdir(parents=True, exist_ok=True)
    classifier = load_classifier(a.classifier)
    real = feature_statistics(classify(classifier, read_items(a.data, "test")[0])[1])
    steps = plan(a.variants, a.minutes, a.folder, a.data)
    results: dict[str, list[dict[str, list[float]]]] = {}
    for seed in a.seeds:
        for name in a.variants:
            run = run_variant(name, seed, steps[name], a.folder, a.data)
            for kind in WEIGHTS.get(name, ("ema",)):
                row = name if kind == "ema" else f"{name}, {kind} weights"
                path = run / f"scores-{kind}.json"
                if not path.is_file():
                    found = scores(run / f"model-{kind}.safetensors", name == "flow_matching", classifier, real)
                    write_text(path, json.dumps(found))
                found = json.loads(path.read_text())
                results.setdefault(row, []).append(found)
                print(f"{row}, seed {seed}, {steps[name]} steps: {found}", flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
