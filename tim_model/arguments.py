"""The arguments of the command line."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

import torch

from .bulk.layouts import LAYOUTS
from .network.rope import ROPE_SCALINGS
from .request import ENLARGE, STRATEGIES
from .sampling.schedule import SCHEDULES, parse_times
from .sampling.sizes import MAX_MEGAPIXELS, MAX_SIDE, MIN_MEGAPIXELS, parse_aspect
from .sampling.solvers.by_name import SOLVERS
from .sampling.tuned import TUNED

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEFAULT_STEPS = 4
MOST_CALLS = 16  # with --tolerance
# Values such as -1e-3 and -inf, which argparse takes for options.
NEGATIVE = re.compile(r"-(\d|\.\d|inf(inity)?$)", re.IGNORECASE)


Command = Callable[[argparse.Namespace], None]


def build_parser(
    inspect: Command, convert: Command, generate: Command, tune_schedule: Command
) -> argparse.ArgumentParser:
    """The parser, whose result has the chosen command as `run`."""
    top = argparse.ArgumentParser(prog="python -m tim_model", description="Transition Models without a node graph.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for run, add_arguments, text in (
        (inspect, add_inspect, "say what a checkpoint or a LoRA is, or why it cannot be used"),
        (convert, add_convert, "write a checkpoint or a LoRA as safetensors"),
        (generate, add_generate, "make images"),
        (tune_schedule, add_tune, "find the times of few steps that end nearest to many steps"),
    ):
        command = commands.add_parser(run.__name__.replace("_", "-"), help=text)
        command._negative_number_matcher = NEGATIVE
        command.set_defaults(run=run)
        add_arguments(command)
    return top


def add_inspect(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path)


def add_convert(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file", type=Path, metavar="IN",
        help="TiM checkpoint (.bin, .pt, .safetensors), a folder of Gemma-3, or a LoRA, which gets ComfyUI's names",
    )  # fmt: skip
    command.add_argument("out", type=Path, metavar="OUT", help="safetensors file to write")
    command.add_argument("--dtype", choices=DTYPES, help="of the file to write (default: as IN)")
    add_lora(command, "merge a LoRA into the checkpoint")


def add_lora(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument(
        "--lora", type=refusing(lora_strength), action="append", default=[], metavar="FILE[:STRENGTH]",
        help=f"{what}, at strength 1 unless stated, also below 0; several times for several",
    )  # fmt: skip


def add_generate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--model", type=Path, required=True, help="TiM checkpoint")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--class", dest="label", metavar="N", help="number or name, for class models")
    what.add_argument("--prompt", help="for text models")
    what.add_argument("--prompts", type=Path, metavar="FILE",
        help="many images: a prompt a line, .jsonl, MJHQ-30K's meta_data.json, or a folder of .txt files")  # fmt: skip
    what.add_argument("--classes", metavar="all|LIST", help="many images: numbers or names, with commas between")
    add("--negative", default="", help="negative prompt (default: the empty one, as published)")
    add("--text-encoder", type=Path, help="folder of google/gemma-3-1b-it or a packed file, for text models")
    add_lora(command, "use a LoRA of the model (and its text encoder)")
    add("--vae", type=Path, help="DC-AE or SD-VAE in the layout of diffusers; pixel-space models need none")
    add("--steps", type=step_counts, metavar="N[,N...]",
        help=f"step counts, one image each (default {DEFAULT_STEPS}, with --tolerance {MOST_CALLS})")  # fmt: skip
    add("--schedule", choices=[*SCHEDULES, TUNED],
        help=f"how steps are spread (default uniform); {TUNED} needs what tune-schedule writes")  # fmt: skip
    add("--times", type=refusing(parse_times), help='own schedule, such as "1, 0.6, 0.25, 0"; in place of --steps')
    add("--cfg", type=finite, default=2.5, help="guidance scale, 1 for none (default 2.5)")
    add("--guidance", type=at_least(-math.inf), nargs=2, default=(0.0, 1.0), metavar=("LOW", "HIGH"),
        help="times between which steps are guided, ends excluded (default 0 1; -inf inf guides all)")  # fmt: skip
    add("--stochasticity", type=at_least(0.0), default=0.0, help="share of noise renewed on the way (default 0)")
    add("--restart", type=at_least(0.0, 1.0), default=0.0, metavar="SHARE",
        help="share by which each step goes past its end; new noise leads back (0 to 1, default 0)")  # fmt: skip
    add("--tolerance", type=at_least(1e-6), metavar="E",
        help="as many steps as each image needs to agree with fewer up to this relative difference, such as 0.15; "
        "--steps is the most network calls")  # fmt: skip
    add("--solver", choices=SOLVERS, help="follow the network's velocities with a solver, in place of its transitions")
    add("--table", type=Path, help="a file of python -m training.epd for --solver epd (default: the midpoint rule)")
    add("--seed", type=at_least(0, 2**64 - 1), default=0)
    add_size(command.add_argument_group("size"))
    add("--batch", type=at_least(1), default=1,
        help="images for each step count; of --prompts and --classes, those drawn together (default 1)")  # fmt: skip
    add("--device", help="cpu, cuda, mps (default: the best there is)")
    add("--dtype", choices=DTYPES, help="of the weights (default: bfloat16 on a GPU, float32 on a CPU)")
    add("--compile", action="store_true",
        help="compile the network by torch.compile: minutes at the first image, faster steps after it")  # fmt: skip
    add("--out", type=Path, default=Path("tim.png"), metavar="PNG|FOLDER",
        help="file to write; of several images, a grid with the single ones beside it (default tim.png); "
        "of --prompts and --classes the folder, with one for each of several step counts")  # fmt: skip
    add_bulk(command.add_argument_group("many images", "of --prompts or --classes"))


def add_bulk(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--layout", choices=LAYOUTS,
        help="names of the files, as evaluators read them (default: plain for prompts, npz for classes)")  # fmt: skip
    add("--images-per-prompt", type=at_least(1), metavar="N",
        help="of --prompts (default: 4 for geneval and dpg, else 1)")  # fmt: skip
    add("--count", type=at_least(1), metavar="N",
        help="images in all of --classes, each class as often as the others (default 50000)")  # fmt: skip


def add_tune(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("model", type=Path, metavar="MODEL", help="TiM checkpoint")
    add("--text-encoder", type=Path, help="of a text model")
    add("--vae", type=Path, help="of a model that is not in pixel space")
    add("--prompts", type=Path, help="for text models: a text file, a prompt a line")
    add("--steps", type=step_range, default=list(range(1, 17)), metavar="A..B",
        help="numbers of steps, such as 1..16 or 2,4,8 (default 1..16)")  # fmt: skip
    add("--cfg", type=finite, default=2.5, help="guidance scale, 1 for none (default 2.5)")
    add("--batch", type=at_least(1), default=24, help="images to tune on, and as many to check with (default 24)")
    add("--seed", type=at_least(0, 2**64 - 1), default=0)
    add("--device", help="cpu, cuda, mps (default: the best there is)")
    add("--out", type=Path, metavar="JSON", help="file to write (default: beside MODEL, where generate looks for it)")


def step_range(text: str) -> list[int]:
    """2..4 as 2, 3, 4, or a list as `step_counts` takes it."""
    first, dots, last = text.partition("..")
    if dots and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last):
        return list(range(int(first), int(last) + 1))
    return step_counts(text)


def add_size(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--size", type=picture_size, metavar="WxH", help="pixels (default: the model's native size)")
    add("--aspect", type=refusing(parse_aspect), metavar="W:H", help="instead of --size, such as 16:9 (default 1:1)")
    add("--megapixels", type=at_least(MIN_MEGAPIXELS, MAX_MEGAPIXELS), metavar="MP",
        help="area that goes with --aspect, 1 is 1024x1024 pixels (default: that of the native size)",
    )  # fmt: skip
    add("--strategy", choices=STRATEGIES, default="native",
        help="native samples at the size itself, what the model was trained for; progressive, for larger "
        "sizes than the native one, samples at that one first, then enlarges and redraws details (default native)",
    )  # fmt: skip
    add("--large-steps", type=at_least(1), metavar="N", help="progressive: steps at each larger size (default 1)")
    add("--renoise", type=float, metavar="T",
        help="progressive: time above 0, up to 1, that larger sizes start at; 1 keeps nothing of the smaller image "
        "(default 0.1)",
    )  # fmt: skip
    add("--shift", action="store_true", default=None, help="progressive: larger sizes step more near the noise")
    add("--enlarge", choices=ENLARGE, help="progressive: what grows; latents need no VAE on the way (default pixels)")
    add("--rope", choices=ROPE_SCALINGS, default="none",
        help="scaling of positions beyond the native size; up to it nothing changes (default none)",
    )  # fmt: skip


def step_counts(text: str) -> list[int]:
    try:
        counts = [int(word) for word in text.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1 or len(set(counts)) < len(counts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers from 1, each once, such as 4 or 1,4,16")
    return counts


def refusing(parse: Callable[[str], object]) -> Callable[[str], object]:
    """`parse` whose ValueError argparse shows as it is."""

    def parser(text: str) -> object:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parser


def at_least(lowest: float, highest: float = math.inf) -> Callable[[str], float]:
    """A parser of numbers of the type of `lowest` and within both ends."""

    def parse(text: str) -> float:
        try:
            number = type(lowest)(text)
        except ValueError:
            number = math.nan
        if not lowest <= number <= highest:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number from {lowest} to {highest}")
        return number

    return parse


def picture_size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) <= MAX_SIDE for side in sides):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected WIDTHxHEIGHT in pixels, up to {MAX_SIDE} each, such as 1024x768"
        )
    return int(sides[0]), int(sides[1])


def finite(text: str) -> float:
    number = at_least(-math.inf)(text)
    if math.isinf(number):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a finite number")
    return number


def lora_strength(text: str) -> tuple[Path, float]:
    """FILE or FILE:strength, such as "fox.safetensors:0.8"; a strength is what follows the last colon, if a number can.

    Raises:
        ValueError: a strength that is no finite number.
    """
    head, colon, tail = text.rpartition(":")
    drive = re.fullmatch("[A-Za-z]", head)  # C:fox.safetensors
    if not colon or drive or re.search(r"[\\/]", tail) or Path(text).is_file():
        return Path(text), 1.0
    try:
        strength = float(tail)
    except ValueError:
        strength = math.nan
    if not math.isfinite(strength):
        raise ValueError(f"{text!r}: expected FILE or FILE:strength, such as fox.safetensors:0.8")
    return Path(head), strength
