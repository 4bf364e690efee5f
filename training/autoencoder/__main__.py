"""Train a small DC-AE: python -m training.autoencoder RECIPE.yaml [key=value ...]

The run folder becomes a VAE in diffusers' layout. The same command resumes a run that was stopped or killed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..processes.command import run_command
from .config import load_autoencoder_config
from .trainer import AutoencoderRun


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. Errors are one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.autoencoder", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path, help="a .yaml file, such as training/recipes/demo/autoencoder.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as optimizer.lr=1e-3 data.path=photos")

    def work(arguments: argparse.Namespace) -> None:
        print(f"wrote {AutoencoderRun(load_autoencoder_config(arguments.recipe, arguments.overrides)).train()}")

    return run_command(parser, work, argv, "stopped; the same command goes on from the newest state")


if __name__ == "__main__":
    sys.exit(main())
