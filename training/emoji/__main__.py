"""EmojiScenes: unpack the drawings, make images for training, write prompts for evaluation.

python -m training.emoji unpack FOLDER [--downloads FOLDER]
python -m training.emoji scenes OUT --drawings FOLDER [--count N] [--crowded] [--seed S]
python -m training.emoji words FILE
python -m training.emoji classifier FILE --drawings FOLDER [--leave-out STYLE]
python -m training.emoji vae VAE --classifier FILE --drawings FOLDER [--count N]
python -m training.emoji prompts FILE [--per-task N] [--shape COLUMNSxROWS] [--seed S]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from tim_model import load_vae
from tim_model.files.tensor_files import check_target, write_text

from ..processes.command import exit_status
from ..scenes.__main__ import parse_shape
from ..scenes.folder import write_jsonl
from .classifier import load_classifier, save_classifier
from .classifier_training import make_classifier
from .drawings import read_drawings, unpack_all
from .prompts import make_prompts
from .things import STYLES
from .vae_quality import vae_quality
from .words import replacements
from .write import write_scenes


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. What cannot be done is one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.emoji", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    unpacking = commands.add_parser("unpack", help="unpack the drawings of the npm packages")
    unpacking.add_argument("folder", type=Path, help="where the drawings go")
    unpacking.add_argument("--downloads", type=Path, help="where the .tgz files are (default: the same folder)")
    scenes = commands.add_parser("scenes", help="make a folder of images with captions")
    scenes.add_argument("out", type=Path, help="the folder to make")
    scenes.add_argument("--drawings", type=Path, required=True, help="a folder of unpack")
    scenes.add_argument("--count", type=int, default=80_000, help="images (default: %(default)s)")
    scenes.add_argument("--crowded", action="store_true", help="any things in all cells, for VAEs")
    words = commands.add_parser("words", help="write which words of prompts mean the same, for the text encoder")
    words.add_argument("file", type=Path, help="the .json file to write")
    classifier = commands.add_parser("classifier", help="train the classifier that judges samples")
    classifier.add_argument("file", type=Path, help="the .safetensors file to write")
    classifier.add_argument("--drawings", type=Path, required=True, help="a folder of unpack")
    classifier.add_argument("--leave-out", choices=STYLES, help="train without this style and measure on it alone")
    vae = commands.add_parser("vae", help="measure what a VAE keeps of new scenes")
    vae.add_argument("vae", type=Path, help="a folder or file in the layout of diffusers")
    vae.add_argument("--classifier", type=Path, required=True, help="a file of classifier")
    vae.add_argument("--drawings", type=Path, required=True, help="a folder of unpack")
    vae.add_argument("--count", type=int, default=300, help="scenes (default: %(default)s)")
    prompts = commands.add_parser("prompts", help="write prompts for evaluation")
    prompts.add_argument("file", type=Path, help="the .jsonl file to write")
    prompts.add_argument("--per-task", type=int, default=64, help="prompts of each task (default: %(default)s)")
    prompts.add_argument("--shape", help="columns x rows of every canvas, such as 2x2")
    for command in (scenes, prompts):
        command.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    arguments = parser.parse_args(argv)
    return exit_status(lambda: work(arguments))


def work(a: argparse.Namespace) -> None:
    if a.command == "unpack":
        unpack_all(a.folder, a.downloads)
        print(f"drawings are in {a.folder}")
    elif a.command == "scenes":
        write_scenes(a.out, read_drawings(a.drawings), a.count, a.seed, a.crowded)
        print(f"wrote {a.out}")
    elif a.command == "classifier":
        check_target(a.file)
        net, line = make_classifier(read_drawings(a.drawings), a.leave_out)
        save_classifier(net, a.file)
        print(f"wrote {a.file}: {line}")
    elif a.command == "vae":
        vae = load_vae(a.vae, dtype=torch.float32)  # CPUs are slow in float16
        print(vae_quality(vae, load_classifier(a.classifier), read_drawings(a.drawings), a.count))
    elif a.command == "words":
        write_text(a.file, json.dumps(replacements(), indent=1))
        print(f"wrote {a.file}")
    else:
        prompts = make_prompts(a.per_task, a.seed, parse_shape(a.shape) if a.shape else None)
        write_jsonl(a.file, [{"scenes": "emoji", **prompt.to_line()} for prompt in prompts])
        print(f"wrote {a.file}")


if __name__ == "__main__":
    sys.exit(main())
