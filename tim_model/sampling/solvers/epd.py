"""EPD (arXiv 2507.14797): steps along the mean of velocities at several times, by a table distilled for them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from ...files.tensor_files import CheckpointError, prefix_errors, read_safetensors, write_safetensors
from .steps import Report, Velocity, finish, start, stepped

FORMAT = "tim-epd-1"
TIME_TOLERANCE = 1e-4  # of times that went through float32 or a text
PARAMETERS, MODEL_TOLERANCE = 16, 0.1  # of fingerprints; rounding to 8 bits changes them by some 0.03


@dataclass(frozen=True)
class EPDTable:
    """K points for each of N steps, and what they were distilled for.

    Args:
        times: (N+1,) float32, strictly decreasing.
        rho: (N,K) in (0, 1): where in its step a point is, 0 at its start.
        weight: (N,K): shares of the velocities, each row sums to 1.
        direction: (N,K): factors of the velocities, about 1.
        time: (N,K): factors of the times that the network is given, about 1.
        model: (16,) the `fingerprint` of the network; zeros fit any.
        cfg: the guidance scale, 1 for none.

    Raises:
        ValueError: numbers that cannot be.
    """

    times: Tensor
    rho: Tensor
    weight: Tensor
    direction: Tensor
    time: Tensor
    model: Tensor
    cfg: float = 1.0

    def __post_init__(self) -> None:
        steps = len(self.times) - 1
        for name in ("rho", "weight", "direction", "time"):
            values = getattr(self, name)
            if (
                values.ndim != 2
                or len(values) != steps
                or values.shape != self.rho.shape
                or not values.isfinite().all()
            ):
                raise ValueError(f"EPD table: {name} is {tuple(values.shape)}, expected ({steps}, K), all finite")
        inside = (self.rho > 0) & (self.rho < 1)
        if not inside.all() or not torch.allclose(self.weight.sum(1), torch.ones(steps), atol=1e-3):
            raise ValueError("EPD table: expected rho between 0 and 1, and weights of each step that sum to 1")

    def check(self, times: Sequence[float], cfg: float, model: Tensor | None = None) -> None:
        """ValueError where the table belongs to other times, another guidance scale or another model."""
        given = torch.tensor([float(t) for t in times])
        if given.shape != self.times.shape or (given - self.times).abs().max() > TIME_TOLERANCE:
            made, asked = (", ".join(f"{float(t):.4g}" for t in row) for row in (self.times, given))
            raise ValueError(
                f"the EPD table is for the times {made}, not for {asked}: distill another or take its times"
            )
        if abs(cfg - self.cfg) > 1e-6:
            raise ValueError(f"the EPD table is for cfg {self.cfg:g}, not for {cfg:g}: distill another for that")
        if model is not None and self.model.any() and (model.cpu() - self.model).abs().max() > MODEL_TOLERANCE:
            raise ValueError("the EPD table was distilled for another model: distill one for this with training.epd")


def midpoint_table(times: Sequence[float], points: int = 1) -> EPDTable:
    """The table of the midpoint rule, which needs no distillation and fits any model."""
    shape = len(times) - 1, points
    one = torch.ones(shape)
    return EPDTable(torch.tensor(times), one / 2, one / points, one, one, torch.zeros(PARAMETERS))


def epd(
    velocity: Velocity, noise: Tensor, times: Sequence[float], table: EPDTable, report: Report | None = None
) -> Tensor:
    """K + 1 calls a step, of which the last K do not wait for each other: x_r = x_t + (r - t) sum of w_j c_j F_j.

    F_j is the velocity at x_t + (s_j - t) F and a_j s_j, with s_j = t + rho_j (r - t). The paper's times are geometric,
    which a step to r = 0 cannot be: these linear ones are ours.

    Raises:
        ValueError: as for `euler`, or a table for other times.
    """
    table.check(times, table.cfg)
    x, steps = start(noise, times)
    for i, (t, r) in enumerate(steps):
        F = velocity(x, t)
        points = zip(*(getattr(table, name)[i].tolist() for name in ("rho", "weight", "direction", "time")))
        x = stepped(i, t, r, x, F, epd_step(velocity, x, F, t, r, points), report)
    return finish(x)


def epd_step(velocity: Velocity, x: Tensor, F: Tensor, t: float, r: float, points: Iterable) -> Tensor:
    """x_r of one step; a point is (rho, weight, direction, time), numbers or tensors with gradients."""
    mean = torch.zeros_like(x)
    for rho, weight, direction, time in points:
        s = t + rho * (r - t)
        mean = mean + weight * direction * velocity(x + (s - t) * F, min(time * s, 1.0))
    return x + (r - t) * mean


def fingerprint(parameters: Iterable[tuple[str, Tensor]]) -> Tensor:
    """(16,) float32 of a network: signed sums of its first matrices by name, each at unit norm.

    Independent weights differ by about 1 in each, a rounding to bfloat16 or to 8 bits changes little.
    """
    matrices = sorted((name, value) for name, value in parameters if value.ndim >= 2)[:PARAMETERS]
    sums = torch.zeros(PARAMETERS)
    for i, (_, value) in enumerate(matrices):
        flat = value.detach().flatten().float()
        signs = 1 - 2 * (torch.arange(len(flat), device=flat.device) * 2654435761 >> 16 & 1)
        sums[i] = (flat * signs).sum() / flat.norm().clamp(min=1e-12)
    return sums


def write_table(table: EPDTable, path: str | os.PathLike) -> None:
    """Write the table as a .safetensors file."""
    tensors = {field.name: getattr(table, field.name) for field in fields(table) if field.name != "cfg"}
    metadata = {"format": FORMAT, "cfg": json.dumps(table.cfg)}
    write_safetensors({name: value.float().clone() for name, value in tensors.items()}, Path(path), metadata)


def read_table(path: str | os.PathLike) -> EPDTable:
    """The table of a file.

    Raises:
        CheckpointError: no such file, or one that is no EPD table.
    """
    with prefix_errors(path):
        tensors, metadata = read_safetensors(Path(path))
        if metadata.get("format") != FORMAT:
            raise CheckpointError("is no EPD table, expected a file of python -m training.epd")
        names = {field.name for field in fields(EPDTable)} - {"cfg"}
        if set(tensors) != names:
            raise CheckpointError(f"holds {sorted(tensors)}, expected {sorted(names)}")
        return EPDTable(**tensors, cfg=float(json.loads(metadata["cfg"])))
