"""Command line: python -m tim_model inspect | convert | generate."""

from __future__ import annotations

import argparse
import math
import signal
import sys
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .arguments import DEFAULT_STEPS, DTYPES, STRATEGIES, build_parser
from .checkpoint import describe, read_checkpoint, write_checkpoint
from .console import escape_unprintable
from .files import check_target
from .latents import latent_shape
from .lora import is_lora, merge_updates, read_lora, read_loras, write_lora
from .lora_facts import describe_lora
from .pictures import grid, save_png, to_pictures
from .pipeline import ENLARGE, TiMPipeline
from .progressive import Stage
from .schedule import make_times
from .sizes import MEGAPIXEL, choose_size, size_warning
from .text import pack_text_encoder

PROGRESSIVE = ("renoise", "large_steps", "shift", "enlarge")  # options of that strategy alone
INTERRUPTED = 130  # exit status, as of any command stopped by Ctrl-C


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Errors are printed as one line on stderr."""
    escape_unprintable()
    arguments = build_parser(inspect, convert, generate).parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError, MemoryError) as error:  # no such device, out of memory
        print(f"error: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def inspect(a: argparse.Namespace) -> None:
    print(describe_lora(a.file) if is_lora(a.file) else describe(a.file))


def convert(a: argparse.Namespace) -> None:
    if a.out.suffix != ".safetensors":
        raise ValueError(f"{a.out}: expected a name that ends in .safetensors")
    check_target(a.out)
    if is_lora(a.file):
        what = convert_lora(a)
    elif not a.file.is_dir():
        what = convert_checkpoint(a)
    elif a.dtype or a.lora:
        raise ValueError(f"{a.file}: a text encoder keeps its own dtype and weights, leave --dtype and --lora out")
    else:
        pack_text_encoder(a.file, a.out)
        what = "text encoder with its config and tokenizer"
    print(f"wrote {a.out} ({a.out.stat().st_size / 1e6:.1f} MB)\n{what}")


def convert_checkpoint(a: argparse.Namespace) -> str:
    """Another dtype, and LoRAs merged, from the input's own digits; returns what was written."""
    checkpoint, dtype = read_checkpoint(a.file), DTYPES.get(a.dtype)
    updates, text_updates = read_loras(a.lora, checkpoint.state_dict)
    if text_updates:
        print("warning: updates of a text encoder are left out, a checkpoint holds none", file=sys.stderr)
    if a.lora and not updates:
        raise ValueError("--lora: has no updates of a network, nothing to merge")
    write_checkpoint(replace(checkpoint, state_dict=merge_updates(checkpoint.state_dict, updates, dtype)), a.out, dtype)
    return describe(a.out)


def convert_lora(a: argparse.Namespace) -> str:
    """Another dtype, in ComfyUI's names; returns what was written."""
    if a.lora:
        raise ValueError(f"{a.file}: is a LoRA itself, expected a checkpoint to merge --lora into")
    write_lora(read_lora(a.file), a.out, DTYPES.get(a.dtype))
    return describe_lora(a.out)


def generate(a: argparse.Namespace) -> None:
    check_target(a.out)
    check_options(a)
    pipeline = TiMPipeline.from_files(a.model, a.text_encoder, a.vae, a.device, DTYPES.get(a.dtype), a.lora)
    size = chosen_size(a, pipeline)
    if warning := size_warning(*size, pipeline.unit):
        print(f"warning: {warning}", file=sys.stderr)
    runs = [planned_stages(a, pipeline, size, steps) for steps in ([0] if a.times else a.steps or [DEFAULT_STEPS])]
    pipeline.check_room(a.batch, *size)
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
    if a.times and (a.steps or a.schedule):
        raise ValueError("--times with --steps or --schedule: expected one or the other")
    if a.negative and (a.label is not None or a.cfg <= 1):
        raise ValueError("--negative without guidance: leave it out, or take a text model and --cfg above 1")
    native = a.strategy == "native"
    names = [name for name in (PROGRESSIVE if native else ("times", "schedule")) if getattr(a, name) is not None]
    if names:
        option, other = names[0].replace("_", "-"), STRATEGIES[native]
        raise ValueError(f"--{option} with --strategy {a.strategy}: leave it out, or take --strategy {other}")


def chosen_size(a: argparse.Namespace, pipeline: TiMPipeline) -> tuple[int, int]:
    """(width, height) in pixels, as stated in either way; ValueError for a size that the model cannot have."""
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
            path = out.with_name(f"{out.stem}-{settings['steps']}steps-{i}{out.suffix}")
            save_png(picture, path, {**settings, "batch": len(pictures), "picture": i})
    labels = [f"steps: {settings['steps']}" for settings, _ in rows]
    settings = {**joined([settings for settings, _ in rows]), "batch": len(rows[0][1])}
    save_png(grid([pictures for _, pictures in rows], labels), out, settings)


def joined(rows: list[dict[str, object]]) -> dict[str, object]:
    """The settings of several rows as one: values that differ are joined, step counts as `--steps` takes them."""
    return {
        name: ("," if name == "steps" else " | ").join(dict.fromkeys(str(row[name]) for row in rows))
        for name in rows[0]
    }


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see __init__.py
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
