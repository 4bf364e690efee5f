"""The command tune-schedule: times that a checkpoint's own fine sampling prefers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from random import Random

from torch import Tensor
from tqdm import tqdm

from .files.errors import prefix_errors
from .files.tensor_files import check_target
from .pipeline import Condition, TiMPipeline
from .sampling.sampler import sample
from .sampling.schedule import make_times
from .sampling.tuned import TunedSchedules, schedules_path, write_schedules
from .sampling.tuning import FINER, GRID, Jump, end_cost, tune, walk


def tune_schedule(a: argparse.Namespace) -> None:
    """Tune on one half of the images, keep what is better than equal steps on the other, and write it."""
    out = a.out or schedules_path(a.model)
    check_target(out)
    pipeline = TiMPipeline.from_files(a.model, a.text_encoder, a.vae, a.device)
    condition = condition_of(pipeline, a.prompts, 2 * a.batch, a.cfg)
    noise = pipeline.noise(pipeline.default_size, 2 * a.batch, a.seed)
    tuned_on, held_out = slice(0, a.batch), slice(a.batch, None)
    with tqdm(total=len(a.steps), desc="numbers of steps", disable=None) as bar:
        jump = jump_of(pipeline, condition, tuned_on, a.cfg)
        found = tune(jump, noise[tuned_on], a.steps, lambda count: bar.update())
    times = {}
    jump = jump_of(pipeline, condition, held_out, a.cfg)
    end = walk(jump, noise[held_out], make_times("uniform", GRID * FINER))[-1]
    for count, tuned in found.items():
        times[count] = better(jump, noise[held_out], end, tuned)
    write_schedules(TunedSchedules(times, a.cfg), out)
    print(f"wrote {out}")


def better(jump: Jump, noise: Tensor, end: Tensor, tuned: list[float]) -> list[float]:
    """The tuned times, or equal steps where these end nearer; prints both discrepancies."""
    uniform = make_times("uniform", len(tuned) - 1)
    costs = [end_cost(jump, noise, end, times) for times in (tuned, uniform)]
    kept = tuned if costs[0] < costs[1] else uniform
    listed = ", ".join(f"{t:.4g}" for t in kept)
    print(f"{len(tuned) - 1} steps: {listed} (discrepancy {costs[0]:.4f}, of equal steps {costs[1]:.4f})")
    return kept


def jump_of(pipeline: TiMPipeline, condition: Condition, rows: slice, cfg: float) -> Jump:
    """Single transitions of some of the images, guided as published."""
    chosen = [part if part is None else part[rows] for part in condition]
    return lambda x, t, r: sample(pipeline.net, x, [t, r], *chosen, cfg=cfg)


def condition_of(pipeline: TiMPipeline, prompts: Path | None, count: int, cfg: float) -> Condition:
    """Conditioning of `count` images: the lines of a file over and over, or random classes.

    Raises:
        ValueError: a text model without prompts.
    """
    if (classes := pipeline.net.params.num_classes) is not None:
        return pipeline.classes([str(label) for label in Random(0).choices(range(classes), k=count)])
    if prompts is None:
        raise ValueError("--prompts: expected a text file with a prompt a line, for a text model")
    return pipeline.text(list(islice(cycle(read_lines(prompts)), count)), guided=cfg > 1)


def read_lines(path: Path) -> Sequence[str]:
    """The lines of a text file that are not empty; ValueError where there is none."""
    with prefix_errors(path):
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path}: holds no prompt, expected one a line")
    return lines
