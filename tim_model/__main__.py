"""Command line: python -m tim_model inspect | convert | generate."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .arguments import at_least, lora_strength, picture_size, refusing, step_counts
from .checkpoint import describe, read_checkpoint, write_checkpoint
from .files import check_target
from .latents import latent_shape
from .lora import is_lora, merge_updates, read_lora, read_loras, write_lora
from .lora_facts import describe_lora
from .pictures import grid, save_png, to_pictures
from .pipeline import ENLARGE, TiMPipeline
from .progressive import Stage
from .rope import ROPE_SCALINGS
from .schedule import SCHEDULES, make_times, parse_times
from .sizes import MAX_MEGAPIXELS, MEGAPIXEL, MIN_MEGAPIXELS, choose_size, parse_aspect, size_warning
from .text import pack_text_encoder

STRATEGIES = ("native", "progressive")
PROGRESSIVE = ("renoise", "large_steps", "shift", "enlarge")  # options of that strategy alone
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status. What cannot be done is one line on stderr."""
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (ValueError, OSError, RuntimeError) as error:  # the last from torch: no such device, out of memory
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m tim_model", description="Transition Models without a node graph.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    add_inspect(commands.add_parser("inspect", help="say what a checkpoint or a LoRA is, or why it cannot be used"))
    add_convert(commands.add_parser("convert", help="write a checkpoint or a LoRA as safetensors"))
    add_generate(commands.add_parser("generate", help="make pictures"))
    return top


def add_inspect(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path)
    command.set_defaults(run=lambda a: print(describe_lora(a.file) if is_lora(a.file) else describe(a.file)))


def add_convert(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file", type=Path, metavar="IN",
        help="TiM checkpoint (.bin, .pt, .safetensors), a folder of Gemma-3, or a LoRA, which gets ComfyUI's names",
    )  # fmt: skip
    command.add_argument("out", type=Path, metavar="OUT", help="safetensors file to write")
    command.add_argument("--dtype", choices=DTYPES, help="of the file to write (default: as IN)")
    add_lora(command, "merge a LoRA into the checkpoint")
    command.set_defaults(run=convert)


def add_lora(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument(
        "--lora", type=refusing(lora_strength), action="append", default=[], metavar="FILE[:STRENGTH]",
        help=f"{what}, at strength 1 unless told otherwise, also below 0; several times for several",
    )  # fmt: skip


def add_generate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--model", type=Path, required=True, help="TiM checkpoint")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--class", dest="label", metavar="N", help="number or name, for class models")
    what.add_argument("--prompt", help="for text models")
    add("--negative", default="", help="what guidance leans away from (default: the empty prompt, as published)")
    add("--text-encoder", type=Path, help="folder of google/gemma-3-1b-it or a packed file, for text models")
    add_lora(command, "use a LoRA of the model (and its text encoder)")
    add("--vae", type=Path, help="DC-AE or SD-VAE in the layout of diffusers; pixel-space models need none")
    add("--steps", type=step_counts, default=[4], metavar="N[,N...]", help="step counts, one picture each (default 4)")
    add("--schedule", choices=SCHEDULES, help="how steps are spread (default uniform)")
    add("--times", type=refusing(parse_times), help='own schedule, such as "1, 0.6, 0.25, 0"; replaces --steps')
    add("--cfg", type=float, default=2.5, help="guidance scale, 1 for none (default 2.5)")
    add("--guidance", type=float, nargs=2, default=(0.0, 1.0), metavar=("LOW", "HIGH"),
        help="times between which steps are guided, ends excluded (default 0 1; -inf inf guides all)")  # fmt: skip
    add("--stochasticity", type=at_least(0.0), default=0.0, help="share of noise renewed on the way (default 0)")
    add("--seed", type=at_least(0, 2**64 - 1), default=0)
    add_size(command.add_argument_group("size"))
    add("--batch", type=at_least(1), default=1, help="pictures for each step count (default 1)")
    add("--device", help="cpu, cuda, mps (default: the best there is)")
    add("--dtype", choices=DTYPES, help="of the weights (default: bfloat16 on a GPU, float32 on a CPU)")
    add("--out", type=Path, default=Path("tim.png"), metavar="PNG",
        help="file to write; a grid of several pictures, which then lie beside it (default tim.png)")  # fmt: skip
    command.set_defaults(run=generate)


def add_size(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--size", type=picture_size, metavar="WxH", help="pixels (default: the size the model is made for)")
    add("--aspect", type=refusing(parse_aspect), metavar="W:H", help="instead of --size, such as 16:9 (default 1:1)")
    add("--megapixels", type=at_least(MIN_MEGAPIXELS, MAX_MEGAPIXELS), metavar="MP",
        help="area that goes with --aspect, 1 is 1024x1024 pixels (default: as the size the model is made for)",
    )  # fmt: skip
    add("--strategy", choices=STRATEGIES, default="native",
        help="native samples at the size itself, what the model was trained for; progressive, for sizes above the one "
        "it is made for, samples at that one first, then enlarges and redraws details (default native)",
    )  # fmt: skip
    add("--large-steps", type=at_least(1), metavar="N", help="progressive: steps at each larger size (default 1)")
    add("--renoise", type=float, metavar="T",
        help="progressive: time above 0, up to 1, that larger sizes start at; 1 draws all anew (default 0.1)",
    )  # fmt: skip
    add("--shift", action="store_true", default=None, help="progressive: larger sizes step more near the noise")
    add("--enlarge", choices=ENLARGE, help="progressive: what grows; latents need no VAE on the way (default pixels)")
    add("--rope", choices=ROPE_SCALINGS, default="none",
        help="scaling of positions beyond the size the model is made for; up to it nothing changes (default none)",
    )  # fmt: skip


def convert(a: argparse.Namespace) -> None:
    if a.out.suffix != ".safetensors":
        raise ValueError(f"{a.out}: expected a name that ends in .safetensors")
    check_target(a.out)
    if is_lora(a.file):
        return convert_lora(a)
    if not a.file.is_dir():
        return convert_checkpoint(a)
    if a.dtype or a.lora:
        raise ValueError(f"{a.file}: a text encoder keeps its own dtype and weights, leave --dtype and --lora out")
    return pack_text_encoder(a.file, a.out)


def convert_checkpoint(a: argparse.Namespace) -> None:
    """Another dtype, and LoRAs merged, from the input's own digits."""
    checkpoint, dtype = read_checkpoint(a.file), DTYPES.get(a.dtype)
    updates, text_updates = read_loras(a.lora, checkpoint.state_dict)
    if text_updates:
        print("warning: updates of a text encoder are left out, a checkpoint holds none", file=sys.stderr)
    if a.lora and not updates:
        raise ValueError("--lora: has no updates of a network, nothing to merge")
    write_checkpoint(replace(checkpoint, state_dict=merge_updates(checkpoint.state_dict, updates, dtype)), a.out, dtype)


def convert_lora(a: argparse.Namespace) -> None:
    if a.lora:
        raise ValueError(f"{a.file}: is a LoRA itself, expected a checkpoint to merge --lora into")
    write_lora(read_lora(a.file), a.out, DTYPES.get(a.dtype))


def generate(a: argparse.Namespace) -> None:
    check_target(a.out)
    check_options(a)
    pipeline = TiMPipeline.from_files(a.model, a.text_encoder, a.vae, a.device, DTYPES.get(a.dtype), a.lora)
    size = chosen_size(a, pipeline)
    if warning := size_warning(*size, pipeline.unit):
        print(f"warning: {warning}", file=sys.stderr)
    runs = [planned_stages(a, pipeline, size, steps) for steps in ([0] if a.times else a.steps)]
    what = [a.prompt if a.label is None else a.label] * a.batch
    condition = pipeline.text(what, a.negative, a.cfg > 1) if a.label is None else pipeline.classes(what)
    rows = []
    for stages in runs:
        counts = [len(stage.times) - 1 for stage in stages]
        description = f"steps: {' + '.join(map(str, counts))}"
        with tqdm(total=sum(counts), unit="step", desc=description) as bar, logging_redirect_tqdm():
            images = pipeline.paint(
                condition, stages, seed=a.seed, rope=a.rope, enlarge=a.enlarge or ENLARGE[0], cfg=a.cfg,
                guidance_interval=tuple(a.guidance), stochasticity=a.stochasticity, callback=lambda step: bar.update(),
            )  # fmt: skip
        rows.append((settings_of(a, stages), to_pictures(images)))
    save_rows(rows, a.out)


def check_options(a: argparse.Namespace) -> None:
    """Raise ValueError for options that exclude each other."""
    if a.size and (a.aspect or a.megapixels):
        raise ValueError("--size with --aspect or --megapixels: expected one or the other")
    native = a.strategy == "native"
    names = [name for name in (PROGRESSIVE if native else ("times", "schedule")) if getattr(a, name) is not None]
    if names:
        option, other = names[0].replace("_", "-"), STRATEGIES[native]
        raise ValueError(f"--{option} with --strategy {a.strategy}: leave it out, or take --strategy {other}")


def chosen_size(a: argparse.Namespace, pipeline: TiMPipeline) -> tuple[int, int]:
    """(width, height) in pixels, as told in either way; ValueError for a size that the model cannot have."""
    if a.aspect or a.megapixels:
        megapixels = a.megapixels or math.prod(pipeline.default_size) / MEGAPIXEL
        return choose_size(a.aspect or 1.0, megapixels, pipeline.unit)
    size = a.size or pipeline.default_size
    latent_shape(pipeline.space, pipeline.net.params.patch_size, *size, a.batch)
    return size


def planned_stages(a: argparse.Namespace, pipeline: TiMPipeline, size: tuple[int, int], steps: int) -> list[Stage]:
    """One stage, or those of --strategy progressive."""
    if a.strategy == "native":
        return [Stage(*size, tuple(a.times or make_times(a.schedule or "uniform", steps)))]
    options = {"large_steps": a.large_steps, "renoise": a.renoise, "time_shift": a.shift}
    return pipeline.plan(size, steps=steps, **{name: value for name, value in options.items() if value is not None})


def settings_of(a: argparse.Namespace, stages: list[Stage]) -> dict[str, object]:
    """What makes the same picture again, for the file's metadata."""
    what = {"class": a.label} if a.prompt is None else {"prompt": a.prompt, "negative": a.negative}
    options = {name: getattr(a, name) for name in PROGRESSIVE if getattr(a, name) is not None}
    if a.strategy == "progressive":
        options["stages"] = ", ".join(f"{stage.width}x{stage.height}" for stage in stages)
    loras = {"loras": ", ".join(f"{path.name}:{strength:g}" for path, strength in a.lora)} if a.lora else {}
    return {
        "model": a.model.name, **loras, **what, "steps": len(stages[0].times) - 1,
        "times": "; ".join(", ".join(f"{t:g}" for t in stage.times) for stage in stages),
        "cfg": a.cfg, "guidance": "{:g} {:g}".format(*a.guidance), "stochasticity": a.stochasticity, "seed": a.seed,
        "size": f"{stages[-1].width}x{stages[-1].height}", "strategy": a.strategy, **options, "rope": a.rope,
    }  # fmt: skip


def save_rows(rows: list[tuple[dict[str, object], list]], out: Path) -> None:
    """Write the one picture to `out`, or a grid of all with the single ones beside it."""
    if sum(len(pictures) for _, pictures in rows) == 1:
        return save_png(rows[0][1][0], out, rows[0][0])
    for settings, pictures in rows:
        for i, picture in enumerate(pictures):
            save_png(picture, out.with_name(f"{out.stem}-{settings['steps']}steps-{i}{out.suffix}"), settings)
    labels = [f"steps: {settings['steps']}" for settings, _ in rows]
    save_png(grid([pictures for _, pictures in rows], labels), out, rows[0][0])


if __name__ == "__main__":
    sys.exit(main())
