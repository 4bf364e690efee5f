"""Train a demo stack from scratch: python -m training.demo [--scenes emoji] [--items FOLDER] [--models FOLDER]

Makes images, classifier, VAE, text encoder and network in this order, by the recipes in training/recipes/demo or
training/recipes/emoji. Existing results are kept, so the same command resumes where it was stopped. Intermediate files
are in runs/demo or runs/emoji.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from tim_model.checkpoint import read_checkpoint, write_checkpoint
from tim_model.files.tensor_files import write_safetensors
from tim_model.vae.files import read_vae

from .evaluation.bundled import MODELS
from .processes.command import INTERRUPTED, run_command
from .stacks.emoji import EMOJI
from .stacks.fashion import FASHION
from .stacks.stack import Stack

STACKS = {"fashion": FASHION, "emoji": EMOJI}


def run(made: Path, command: Sequence[object]) -> None:
    """Run a module unless its result exists.

    Raises:
        ValueError: it failed; it has printed the reason.
        KeyboardInterrupt: a signal stopped it, after it saved its state.
    """
    if made.exists():
        print(f"{made} is there", flush=True)
        return
    made.parent.mkdir(parents=True, exist_ok=True)
    status = run_whole(*map(str, command))
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        raise ValueError(f"{command[0]} ended with status {status}, {made} was not made")


def run_whole(module: str, *arguments: str) -> int:
    """Run a module in its own process and return the exit status; on Ctrl-C, which it also gets, wait for its end."""
    process = get_context("spawn").Process(target=run_module, args=(module, *arguments))
    process.start()
    while process.exitcode is None:
        with suppress(KeyboardInterrupt):
            process.join()
    return process.exitcode


def run_module(module: str, *arguments: str) -> None:
    """Run `python -m module arguments` in this process."""
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def install(stack: Stack, models: Path) -> list[Path]:
    """Copy the results to the models folder under their final names, weights in float16; returns the files."""
    targets = {name: models / path.relative_to(MODELS) for name, path in stack.files.items() if MODELS in path.parents}
    for path in targets.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(read_checkpoint(stack.network), targets["model"], torch.float16)
    write_safetensors(half(read_vae(stack.vae).state_dict), targets["vae"], {"format": "pt"})
    targets["text_encoder"].write_bytes(stack.text_encoder.read_bytes())
    targets["classifier"].write_bytes(stack.classifier.read_bytes())
    return list(targets.values())


def half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.half().contiguous() for name, value in weights.items()}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. Errors are one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", choices=STACKS, default="fashion", help="what it draws (default: %(default)s)")
    data = ", ".join(f"{stack.data} for {name}" for name, stack in STACKS.items())
    parser.add_argument("--items", type=Path, help=f"Fashion-MNIST, or emoji drawings (default: {data})")
    parser.add_argument("--models", type=Path, default=MODELS, help="where the files go (default: %(default)s)")

    def work(arguments: argparse.Namespace) -> None:
        stack = STACKS[arguments.scenes]
        for made, command in stack.stages(arguments.items or stack.data):
            run(made, command)
        for path in install(stack, arguments.models):
            print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")

    return run_command(parser, work, argv, "stopped; the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
