"""Command line: python -m tim_model inspect | convert | generate | tune-schedule."""

from __future__ import annotations

import argparse
import math
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .arguments import DEFAULT_STEPS, DTYPES, MOST_CALLS, build_parser
from .bulk.share import join
from .checkpoint import describe, read_checkpoint, write_checkpoint
from .console import escape_unprintable
from .files.tensor_files import check_target
from .generate_bulk import check_bulk, generate_bulk, job_of
from .images import grid, joined, save_png, to_pictures
from .lora.facts import describe_lora
from .lora.updates import is_lora, merge_updates, read_lora, read_loras, write_lora
from .network.latent_space import latent_shape
from .pipeline import TiMPipeline
from .request import NATIVE, STRATEGIES, Request
from .sampling.progressive import Stage
from .sampling.sampler import Sampling
from .sampling.schedule import make_times
from .sampling.sizes import MEGAPIXEL, choose_size, native_warning, size_warning
from .sampling.solvers.by_name import EPD, Solver
from .sampling.solvers.epd import read_table
from .sampling.tuned import TUNED, read_schedules
from .text.encoder import pack_text_encoder
from .tune import tune_schedule

PLANNING = ("renoise", "large_steps", "shift", "enlarge")  # options of --strategy progressive alone
INTERRUPTED = 130  # exit status, as of any command stopped by Ctrl-C


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Errors are printed as one line on stderr."""
    escape_unprintable()
    arguments = build_parser(inspect, convert, generate, tune_schedule).parse_args(argv)
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
    if a.prompts or a.classes:
        return generate_many(a)
    check_single(a)
    check_target(a.out)
    check_options(a)
    pipeline = load_pipeline(a, a.device)
    size = chosen_size(a, pipeline)
    warning = size_warning(*size, pipeline.unit)
    if a.strategy == NATIVE and not warning:  # several stages may draw it
        warning = native_warning(*size, pipeline.default_size, pipeline.size_is_largest)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    pipeline.check_room(a.batch, *size)
    requests = [request_of(a, planned_stages(a, pipeline, size, steps)) for steps in step_counts(a)]
    condition = pipeline.condition(requests[0])
    rows = []
    for request in requests:
        counts = [len(stage.times) - 1 for stage in request.stages]
        description = f"steps: {' + '.join(map(str, counts))}"
        with tqdm(total=sum(counts), unit="step", desc=description) as bar, logging_redirect_tqdm():
            images = pipeline.generate(request, condition, lambda step: bar.update())
            bar.total = bar.n  # fewer than the most that a tolerance may take
        if a.tolerance:
            print(f"{description}: {bar.n} network calls")
        rows.append(({**files_of(a), **request.metadata()}, to_pictures(images)))
    save_rows(rows, a.out)


def generate_many(a: argparse.Namespace) -> None:
    """Images of all prompts or classes in a layout; of several processes, each draws its share."""
    check_bulk(a)
    check_options(a)
    share = join()
    try:
        pipeline = load_pipeline(a, share.device(a.device))

        def request(size: tuple[int, int], steps: int) -> Request:
            return request_of(a, planned_stages(a, pipeline, size, steps))

        generate_bulk(pipeline, job_of(a, pipeline, chosen_size(a, pipeline), step_counts(a), request), share)
    finally:
        share.leave()


def load_pipeline(a: argparse.Namespace, device: str | None) -> TiMPipeline:
    """The parts that the arguments name, the network compiled where they say so."""
    pipeline = TiMPipeline.from_files(a.model, a.text_encoder, a.vae, device, DTYPES.get(a.dtype), a.lora)
    if a.compile:
        pipeline.net.compile()
    return pipeline


def step_counts(a: argparse.Namespace) -> list[int]:
    """The step count of each row; of own times, which have theirs, there is one row."""
    return [0] if a.times else a.steps or [MOST_CALLS if a.tolerance else DEFAULT_STEPS]


def check_single(a: argparse.Namespace) -> None:
    """ValueError for options that one prompt or class does not have."""
    for option in ("layout", "images_per_prompt", "count"):
        if getattr(a, option) is not None:
            raise ValueError(f"--{option.replace('_', '-')}: is for --prompts or --classes, leave it out")
    if a.out.suffix.lower() != ".png":
        raise ValueError(f"{str(a.out)!r}: expected a name that ends in .png, the format of all images")


def check_options(a: argparse.Namespace) -> None:
    """Raise ValueError for options that exclude each other."""
    if a.size and (a.aspect or a.megapixels):
        raise ValueError("--size with --aspect or --megapixels: expected one or the other")
    if a.times and (a.steps or a.schedule):
        raise ValueError("--times with --steps or --schedule: expected one or the other")
    if a.negative and (a.label is not None or a.classes or a.cfg <= 1):
        raise ValueError("--negative without guidance: leave it out, or take a text model and --cfg above 1")
    if a.table and a.solver != EPD:
        raise ValueError(f"--table without --solver {EPD}: leave it out, or take that solver")
    if a.solver and (a.strategy != NATIVE or a.stochasticity or a.restart):
        raise ValueError("--solver with --strategy progressive, --stochasticity or --restart: leave one of them out")
    if a.tolerance and (a.strategy != NATIVE or a.stochasticity or a.restart or a.solver or a.schedule or a.times):
        others = "--strategy progressive, --stochasticity, --restart, --solver, --schedule or --times"
        raise ValueError(f"--tolerance with {others}: leave one of them out")
    native = a.strategy == NATIVE
    names = [name for name in (PLANNING if native else ("times", "schedule")) if getattr(a, name) is not None]
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
    if a.strategy == NATIVE:
        return [Stage(*size, tuple(a.times or scheduled_times(a, steps)))]
    options = {"large_steps": a.large_steps, "renoise": a.renoise, "time_shift": a.shift}
    return pipeline.plan(size, steps=steps, **{name: value for name, value in options.items() if value is not None})


def scheduled_times(a: argparse.Namespace, steps: int) -> list[float]:
    return read_schedules(a.model).of(steps) if a.schedule == TUNED else make_times(a.schedule or "uniform", steps)


def request_of(a: argparse.Namespace, stages: list[Stage]) -> Request:
    """The arguments as a request for these stages; of many prompts or classes, for one that is not yet stated."""
    if a.prompts or a.classes:
        what = {"prompts": ("",)} if a.prompts else {"classes": ("0",)}
    else:
        what = {"prompts": (a.prompt,) * a.batch} if a.label is None else {"classes": (a.label,) * a.batch}
    sampling = Sampling(a.cfg, tuple(a.guidance), a.stochasticity, restart=a.restart)
    solver = Solver(a.solver, read_table(a.table) if a.table else None) if a.solver else None
    return Request(
        **what, negative=a.negative, stages=tuple(stages), seed=a.seed,
        sampling=sampling, rope=a.rope, strategy=a.strategy, solver=solver, tolerance=a.tolerance,
        **{name: getattr(a, name) for name in PLANNING},
    )  # fmt: skip


def files_of(a: argparse.Namespace) -> dict[str, object]:
    """The files behind the images, for their metadata."""
    loras = {"loras": ", ".join(f"{path.name}:{strength:g}" for path, strength in a.lora)} if a.lora else {}
    return {"model": a.model.name, **loras, **({"table": a.table.name} if a.table else {})}


def save_rows(rows: list[tuple[dict[str, object], list]], out: Path) -> None:
    """Write the one image to `out`, or a grid of all with the single ones beside it."""
    if sum(len(pictures) for _, pictures in rows) == 1:
        return save_png(rows[0][1][0], out, rows[0][0])
    for settings, pictures in rows:
        for i, picture in enumerate(pictures):
            path = out.with_name(f"{out.stem}-{settings['steps']}steps-{i}{out.suffix}")
            save_png(picture, path, {**settings, "batch": len(pictures), "picture": i})
    labels = [f"steps: {settings['steps']}" for settings, _ in rows]
    settings = {**joined([settings for settings, _ in rows]), "batch": len(rows[0][1])}
    save_png(grid([pictures for _, pictures in rows], labels), out, settings)


def command() -> NoReturn:
    """`python -m tim_model` and `tim`."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see __init__.py
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())


if __name__ == "__main__":
    command()
