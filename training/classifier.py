"""A small classifier of Fashion-MNIST items: it scores samples, and its features give their Fréchet distance.

    python -m training.classifier FOLDER OUT.safetensors

FOLDER holds the four files of Fashion-MNIST (Debian package dataset-fashion-mnist).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tim_model.files.tensor_files import check_target

from .evaluation.classifier import accuracy, read_items, save_classifier, train_classifier
from .processes.command import run_command


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. Errors are one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.classifier", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the four files of Fashion-MNIST")
    parser.add_argument("out", type=Path, help="the .safetensors file to write")

    def work(arguments: argparse.Namespace) -> None:
        check_target(arguments.out)
        train, test = read_items(arguments.folder, "train"), read_items(arguments.folder, "test")
        net = train_classifier(*train)
        save_classifier(net, arguments.out)
        print(f"wrote {arguments.out}: {accuracy(net, *test):.1%} of the test images recognized")

    return run_command(parser, work, argv, "stopped; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
