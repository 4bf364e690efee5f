"""Distill an EPD table: python -m training.epd MODEL --steps N --out TABLE.safetensors

The table holds the points at which the EPD sampler evaluates a TiM checkpoint in velocity mode, for each of N steps. It
is distilled from several random starts, and the best one on held-out noise is kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from random import Random

from torch import Tensor
from tqdm import tqdm

from tim_model import TiMPipeline, make_times
from tim_model.files.tensor_files import check_target, prefix_errors
from tim_model.sampling.sampler import Condition
from tim_model.sampling.schedule import SCHEDULES
from tim_model.sampling.solvers.epd import EPDTable, fingerprint, midpoint_table, write_table
from tim_model.sampling.solvers.velocity import velocity_of

from .distillation.epd import Run, distill, end_error, teach
from .evaluation.bundled import BUNDLED
from .processes.command import run_command
from .scenes.folder import make_prompts

BATCHES = 4  # for distillation; one more is held out


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. Errors are one line on stderr."""
    return run_command(parser(), make_table, argv, "stopped; nothing was written")


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(prog="python -m training.epd", description=__doc__.splitlines()[0])
    add = command.add_argument
    add("model", type=Path, help="TiM checkpoint")
    add("--steps", type=int, required=True, help="steps of the sampler")
    add("--out", type=Path, required=True, help="the .safetensors file to write")
    add("--schedule", choices=list(SCHEDULES), default="uniform", help="of the steps (default: %(default)s)")
    add("--points", type=int, default=2, help="network calls after the first in each step (default: %(default)s)")
    add("--cfg", type=float, default=1.0, help="guidance scale of every call, 1 for none (default: %(default)s)")
    add("--text-encoder", default=BUNDLED["text_encoder"], help='of the model (default: the bundled one), "" for none')
    add("--vae", default=BUNDLED["vae"], help='of the model (default: the bundled one), "" for pixel-space models')
    add("--prompts", type=Path, help="text file, a prompt a line; without it prompts of FashionScenes are made")
    add("--iterations", type=int, default=60, help="updates of each table (default: %(default)s)")
    add("--seeds", type=int, default=3, help="random starts, of which the best is kept (default: %(default)s)")
    add("--batch", type=int, default=8, help="images drawn at once (default: %(default)s)")
    add("--device", help="cpu, cuda, mps (default: the best there is)")
    return command


def make_table(a: argparse.Namespace) -> None:
    """Distill and write a table; ValueError in one line for bad input."""
    for name in ("points", "iterations", "seeds", "batch"):
        if getattr(a, name) < 1:
            raise ValueError(f"--{name} {getattr(a, name)}: expected a number from 1")
    if a.out.suffix != ".safetensors":
        raise ValueError(f"{a.out}: expected a name that ends in .safetensors")
    check_target(a.out)
    times = make_times(a.schedule, a.steps)
    pipeline = TiMPipeline.from_files(a.model, a.text_encoder, a.vae, a.device)
    pipeline.net.requires_grad_(False)
    *runs, held_out = make_runs(a, pipeline, times)
    model = fingerprint(pipeline.net.named_parameters())
    tables = make_tables(a, times, runs, model)
    errors = [end_error(held_out, table) for table in tables]
    write_table(tables[errors.index(min(errors))], a.out)
    plain = end_error(held_out, midpoint_table(times))
    print(
        f"wrote {a.out}: error {min(errors):.4f} on held-out noise, {plain:.4f} by the midpoint rule in as many steps"
    )


def make_runs(a: argparse.Namespace, pipeline: TiMPipeline, times: Sequence[float]) -> list[Run]:
    """The teacher's runs, each with its own noise and prompts or classes; the last one is held out."""
    conditions = make_conditions(a, pipeline)
    runs = []
    for seed, condition in enumerate(tqdm(conditions, desc="teacher", unit="batch", disable=None)):
        velocity = velocity_of(pipeline.net, *condition, cfg=a.cfg)
        runs.append(teach(velocity, pipeline.noise(pipeline.default_size, a.batch, seed), times))
    return runs


def make_conditions(a: argparse.Namespace, pipeline: TiMPipeline) -> list[Condition]:
    """The conditioning of each batch: the prompts in order, or random classes."""
    count = (BATCHES + 1) * a.batch
    if (classes := pipeline.net.params.num_classes) is not None:
        labels = [str(label) for label in Random(0).choices(range(classes), k=count)]
        return [pipeline.classes(labels[i : i + a.batch]) for i in range(0, count, a.batch)]
    prompts = list(islice(cycle(read_prompts(a.prompts)), count))
    return [pipeline.text(prompts[i : i + a.batch], guided=a.cfg > 1) for i in range(0, count, a.batch)]


def read_prompts(path: Path | None) -> list[str]:
    """The non-empty lines of a file, or prompts of FashionScenes; ValueError for an empty file."""
    if path is None:
        return Random(0).sample(made := [prompt.text for prompt in make_prompts(32)], len(made))
    with prefix_errors(path):
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path}: holds no prompt, expected one a line")
    return lines


def make_tables(a: argparse.Namespace, times: Sequence[float], runs: Sequence[Run], model: Tensor) -> list[EPDTable]:
    """A table from each random start."""
    tables = []
    with tqdm(total=a.seeds * a.iterations, desc="tables", disable=None) as bar:
        for seed in range(a.seeds):

            def report(loss: float, seed: int = seed) -> None:
                bar.set_postfix(start=seed, loss=f"{loss:.2e}", refresh=False)
                bar.update()

            tables.append(distill(runs, times, a.points, a.iterations, seed, report).table(times, model, a.cfg))
    return tables


if __name__ == "__main__":
    sys.exit(main())
