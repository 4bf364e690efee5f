"""Train TiM: python -m training.train RECIPE.yaml [key=value ...] [--dry-run]

Several processes: torchrun --nproc_per_node N -m training.train RECIPE.yaml, or accelerate launch -m training.train.
The same command resumes a run that was stopped or killed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

import torch

from tim_model.files.tensor_files import one_line

from .config.load import load_config
from .processes.command import reason, run_command
from .processes.share import joined, rank, started_processes
from .run.preflight import dry_run
from .run.trainer import Trainer


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. Errors are one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path, help="a .yaml file, such as those in training/recipes")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as optimizer.lr=1e-3 data.path=photos")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check all that a run would, print config, data, model and memory, and touch nothing",
    )

    return run_command(parser, train, argv, "stopped; the same command goes on", describe)


def train(arguments: argparse.Namespace) -> int:
    """Train, or print what a run would do."""
    config = load_config(arguments.recipe, arguments.overrides)
    if arguments.dry_run:
        dry_run(config)
        return 0
    return Trainer(config).train()


def describe(error: Exception) -> str:
    """An error on one line, with the process that reports it and what to do about it."""
    if isinstance(error, torch.OutOfMemoryError):
        advice = "raise optimizer.accumulation, or set run.gradient_checkpointing=true; the same command goes on"
        return f"{place()}{one_line(error)}; {advice}"
    return f"{place()}{reason(error)}{peers(error)}"


def place() -> str:
    """The process that reports, if it is not the first one, which reports for all."""
    return f"rank {rank()}: " if rank() else ""


def peers(error: Exception) -> str:
    """A hint at the other processes, for a process that fails while it communicates with them."""
    if not joined() or not isinstance(error, RuntimeError):
        return ""
    return "; where another process has ended, its own line says why, or it was killed; the same command goes on"


def command() -> NoReturn:
    """`python -m training.train` and `tim-train`."""
    status = main()
    if started_processes() > 1:
        # everything is written and the process group has ended; threads left by gloo may abort a regular exit
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    command()
