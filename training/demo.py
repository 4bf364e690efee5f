"""Make the demo stack from nothing: python -m training.demo [--items FOLDER] [--models FOLDER]

One after another, each as its recipe in training/recipes/demo says: pictures, classifier, VAE, text encoder, network.
What is there is kept, and the same command goes on where it was stopped; everything but the result is in runs/demo.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tim_model.checkpoint import read_checkpoint, write_checkpoint
from tim_model.console import escape_unprintable
from tim_model.files import write_safetensors
from tim_model.vae import read_vae

from .command import INTERRUPTED, status_of
from .evaluate import BUNDLED, MODELS

RECIPES = Path(__file__).parent / "recipes" / "demo"
RUNS = Path("runs/demo")  # where the recipes put things
SCENES = 80_000
AUTOENCODER, DECODER = RUNS / "autoencoder", RUNS / "decoder"
# Latents stay as they are, so that a network of them goes with either decoder.
DECODER_STAGE = [
    f"run.decoder_of={AUTOENCODER}", "optimizer.lr=1e-3", "run.seed=1", "run.steps=6000", f"run.folder={DECODER}"
]  # fmt: skip
VELOCITY, TRANSITIONS, TIM, NETWORK = (
    RUNS / name / "model-ema.safetensors" for name in ("velocity", "transitions", "tim", "few_steps")
)
# Velocities first: from them captions are learned in half the time; what TiM then learns are the transitions.
VELOCITY_STAGE = [
    "objective.name=flow_matching", "objective.guided=false", "objective.P_mean=0", "optimizer.lr=2e-3",
    "optimizer.warmup=300", "run.seed=0", "run.steps=4000", f"run.folder={VELOCITY.parent}",
]  # fmt: skip
# The recipe's own run starts from a shorter one of the same.
TRANSITIONS_STAGE = [
    f"model.checkpoint={VELOCITY}", "objective.P_mean=0", "objective.consistency_ratio=0.1",
    "optimizer.warmup=100", "run.seed=1", "run.steps=2800", f"run.folder={TRANSITIONS.parent}",
]  # fmt: skip
# Long transitions are what TiM's target teaches last, since it scatters most there (benchmarks/target_scatter.py). Here
# each is made to equal two shorter ones of the same network.
FEW_STEPS_STAGE = [
    f"model.checkpoint={TIM}", "objective.name=split_meanflow", "objective.P_mean=0.8", "objective.diffusion_ratio=0.4",
    "objective.consistency_ratio=0.3", "optimizer.lr=1e-3", "run.seed=3", "run.steps=6300",
    f"run.folder={NETWORK.parent}",
]  # fmt: skip
PACKED_TEXT_ENCODER = RUNS / "gemma-fashion-scenes.safetensors"


def stages(items: Path) -> list[tuple[Path, Sequence[str]]]:
    """What each stage makes, and the module with its arguments that makes it."""
    return [
        (RUNS / "scenes", ["training.scenes", "--out", RUNS / "scenes", "--items", items, "--count", SCENES]),
        (RUNS / "classifier.safetensors", ["training.classifier", items, RUNS / "classifier.safetensors"]),
        (AUTOENCODER / "config.json", ["training.autoencoder", RECIPES / "autoencoder.yaml"]),
        (DECODER / "config.json", ["training.autoencoder", RECIPES / "autoencoder.yaml", *DECODER_STAGE]),
        (PACKED_TEXT_ENCODER, ["training.language_model", RECIPES / "language_model.yaml"]),
        (VELOCITY, ["training.train", RECIPES / "tim.yaml", *VELOCITY_STAGE]),
        (TRANSITIONS, ["training.train", RECIPES / "tim.yaml", *TRANSITIONS_STAGE]),
        (TIM, ["training.train", RECIPES / "tim.yaml", f"model.checkpoint={TRANSITIONS}"]),
        (NETWORK, ["training.train", RECIPES / "tim.yaml", *FEW_STEPS_STAGE]),
    ]


def run(made: Path, command: Sequence[object]) -> None:
    """Run a module unless what it makes is there.

    Raises:
        ValueError: it failed; its own line says why.
        KeyboardInterrupt: a signal has stopped it, after it has saved what it keeps.
    """
    if made.exists():
        print(f"{made} is there", flush=True)
        return
    made.parent.mkdir(parents=True, exist_ok=True)
    status = run_whole([sys.executable, "-m", *map(str, command)])
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        raise ValueError(f"{command[0]} ended with status {status}, {made} was not made")


def run_whole(command: Sequence[str]) -> int:
    """The exit status of a command; Ctrl-C, which reaches it too, lets it end by itself."""
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def install(models: Path) -> list[Path]:
    """Copy the results under their names in the models folder, weights in float16; returns the files."""
    targets = {name: models / path.relative_to(MODELS) for name, path in BUNDLED.items() if MODELS in path.parents}
    for path in targets.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(read_checkpoint(NETWORK), targets["model"], torch.float16)
    write_safetensors(half(read_vae(DECODER).state_dict), targets["vae"], {"format": "pt"})
    targets["text_encoder"].write_bytes(PACKED_TEXT_ENCODER.read_bytes())
    targets["classifier"].write_bytes((RUNS / "classifier.safetensors").read_bytes())
    return list(targets.values())


def half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.half().contiguous() for name, value in weights.items()}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. What cannot be done is one line on stderr."""
    escape_unprintable()
    parser = argparse.ArgumentParser(prog="python -m training.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=Path, default=BUNDLED["data"], help="Fashion-MNIST (default: %(default)s)")
    parser.add_argument("--models", type=Path, default=MODELS, help="where the files go (default: %(default)s)")
    arguments = parser.parse_args(argv)

    def work() -> None:
        for made, command in stages(arguments.items):
            run(made, command)
        for path in install(arguments.models):
            print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")

    return status_of(work, "stopped; the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
