"""Energy distances between what solvers draw from the mixture and samples of it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tim_model import make_times
from tim_model.sampling.solvers.multistep import ab2
from tim_model.sampling.solvers.skipped_step import skipped_step
from tim_model.sampling.solvers.steps import euler

from .problems import DIMENSIONS, draw_mixture, mixture_velocity

COUNT, REPEATS = 4000, 3
STEPS = (4, 8, 16, 32)


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E|a - b| - E|a - a'| - E|b - b'| of samples (N,D); 0 for equal distributions, up to the choice of samples."""
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


def distribution_table() -> str:
    """A row for each solver; the first number of the last row is the distance of two sets of samples."""
    ways = {
        "Euler": euler,
        "AB2": ab2,
        **{
            f"skipped-step, eta {eta:g}{f', switch {switch:g}' if switch else ''}": partial(
                skipped_step, eta=eta, switch=switch
            )
            for eta, switch in ((1.0, 0.0), (0.5, 0.0), (1.0, 0.5))
        },
    }
    lines = [["steps", *map(str, STEPS)], ["---"] * (1 + len(STEPS))]
    for name, solver in ways.items():
        distances = [[distance(name, solver, steps, seed) for seed in range(REPEATS)] for steps in STEPS]
        lines.append([name, *(f"{sum(row) / len(row):.4f}" for row in distances)])
    floor = energy_distance(draw_mixture(COUNT, 100), draw_mixture(COUNT, 200))
    lines.append(["two sets of samples", f"{floor:.4f}", *[""] * (len(STEPS) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def distance(name: str, solver, steps: int, seed: int) -> float:
    noise = torch.randn(COUNT, DIMENSIONS, 1, 1, generator=torch.Generator().manual_seed(seed))
    options = {"noise_fn": batch_noise(seed)} if name.startswith("skipped") else {}
    x = solver(mixture_velocity, noise, make_times("uniform", steps), **options)
    return energy_distance(x.flatten(1), draw_mixture(COUNT, 100 + seed))


def batch_noise(seed: int):
    generator = torch.Generator().manual_seed(seed + 1)
    return lambda x: torch.randn(x.shape, generator=generator)
