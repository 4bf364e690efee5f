"""Train TiM: python -m training.train RECIPE.yaml [key=value ...] [--dry-run]

Several processes: torchrun --nproc_per_node N -m training.train RECIPE.yaml, or accelerate launch -m training.train.
The same command goes on where a run was stopped or killed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from tim_model.console import escape_unprintable
from tim_model.files import one_line

from .command import INTERRUPTED
from .config import load_config
from .preflight import dry_run
from .run import Run
from .share import joined, rank


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. What cannot be done is one line on stderr."""
    escape_unprintable()
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path, help="a .yaml file, such as those in training/recipes")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as optimizer.lr=1e-3 data.path=photos")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check all that a run would, print config, data, model and memory, and touch nothing",
    )
    arguments = parser.parse_intermixed_args(argv)
    try:
        config = load_config(arguments.recipe, arguments.overrides)
        if arguments.dry_run:
            dry_run(config)
            return 0
        return Run(config).train()
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except torch.OutOfMemoryError as error:
        advice = "raise optimizer.accumulation, or set run.gradient_checkpointing=true; the same command goes on"
        print(f"error: {place()}{one_line(error)}; {advice}", file=sys.stderr)
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"error: {place()}{reason}{peers(error)}", file=sys.stderr)
    return 1


def place() -> str:
    """Which of several processes speaks, where it is not the first, that speaks for all."""
    return f"rank {rank()}: " if rank() else ""


def peers(error: Exception) -> str:
    """What a process may not know of the others when it fails while they talk to each other."""
    if not joined() or not isinstance(error, RuntimeError):
        return ""
    return "; where another process has ended, its own line says why, or it was killed; the same command goes on"


if __name__ == "__main__":
    status = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # all is written and the group has parted; threads that gloo leaves behind may abort a regular end
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
