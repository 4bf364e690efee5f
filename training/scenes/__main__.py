"""FashionScenes: drawn images of tinted Fashion-MNIST items on a grid, and prompts in the style of GenEval.

python -m training.scenes --out FOLDER --items FOLDER --count N [--split train|test] [--seed S]
python -m training.scenes --tasks FILE --per-task N [--shape COLUMNSxROWS] [--seed S]
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from ..data.idx import PARTS
from ..processes.command import run_command
from .captions import Shape
from .folder import make_prompts, write_images, write_prompts
from .scene import Items


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. Errors are one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.scenes", description=__doc__.splitlines()[0])
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--out", type=Path, help="the folder of images to make")
    wanted.add_argument("--tasks", type=Path, help="the .jsonl file of prompts to write")
    parser.add_argument("--items", type=Path, default=Path(), help="the folder with Fashion-MNIST's idx files")
    parser.add_argument("--count", type=int, default=20_000, help="images (default: %(default)s)")
    parser.add_argument("--split", choices=PARTS, default="train", help="the items to show (default: %(default)s)")
    parser.add_argument("--per-task", type=int, default=100, help="prompts of each task (default: %(default)s)")
    parser.add_argument("--shape", help="columns x rows of every prompt's canvas, such as 4x3")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")

    def work(arguments: argparse.Namespace) -> None:
        if arguments.out:
            write_images(arguments.out, Items(arguments.items, arguments.split), arguments.count, arguments.seed)
        else:
            shape = parse_shape(arguments.shape) if arguments.shape else None
            write_prompts(arguments.tasks, make_prompts(arguments.per_task, arguments.seed, shape))
        print(f"wrote {arguments.out or arguments.tasks}")

    return run_command(parser, work, argv)


def parse_shape(text: str) -> Shape:
    """(columns, rows) of a text such as 4x3."""
    if not (match := re.fullmatch(r"(\d+)x(\d+)", text)):
        raise ValueError(f"--shape {text!r}: expected columns x rows, such as 4x3")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    sys.exit(main())
