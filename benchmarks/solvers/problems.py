"""Velocities with a reference: a mixture whose velocity is exact, and the demo network in velocity mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from random import Random

import torch
from torch import Tensor

from tim_model import TiMPipeline, sample
from tim_model.sampling.solvers.steps import Velocity
from tim_model.sampling.solvers.velocity import EVERY_CALL, velocity_of
from training.evaluation.bundled import BUNDLED
from training.scenes.folder import make_prompts

GUIDED = 2.5
OTHERS = 6  # images in a batch of the demo to distill from
DIMENSIONS, COMPONENTS, STD = 8, 10, 0.2
MEANS = torch.randn(COMPONENTS, DIMENSIONS, generator=torch.Generator().manual_seed(5))
REFERENCE_STEPS = {"mixture": 250, "demo": 64}


@dataclass(frozen=True)
class Problem:
    """A velocity for each image, and what solvers start from.

    Args:
        field: rows of the noise -> their velocity.
        noise: (B,...).
        others: velocities and noise of other images, to distill from; the last batch is held out.
        transitions: noise and times -> images by TiM's transitions, where there is a network.
    """

    name: str
    cfg: float
    field: Callable[[slice], Velocity]
    noise: Tensor
    others: list[tuple[Velocity, Tensor]]
    transitions: Callable[[Tensor, list[float]], Tensor] | None = None


def mixture_velocity(x: Tensor, t: float, labels: Tensor | None = None, cfg: float = 1.0) -> Tensor:
    """The exact velocity at x (B,8,1,1) for Gaussians of equal weight; with labels (B,) guided towards one of them."""
    points, means = x.flatten(1), MEANS.to(x)
    variance = ((1 - t) * STD) ** 2 + t**2
    offsets = points[:, None] - (1 - t) * means
    towards = -means + (t - (1 - t) * STD**2) / variance * offsets  # (B,10,8)
    shares = (-(offsets**2).sum(-1) / (2 * variance)).softmax(-1)[..., None]
    F = (shares * towards).sum(1)
    if labels is not None and cfg > 1:
        F = F + cfg * (towards[torch.arange(len(x)), labels] - F)
    return F.view_as(x)


def draw_mixture(count: int, seed: int) -> Tensor:
    """(count,8) samples of the mixture."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(COMPONENTS, (count,), generator=generator)
    return MEANS[chosen] + STD * torch.randn(count, DIMENSIONS, generator=generator)


def mixture(cfg: float, count: int = 128) -> Problem:
    def noise(seed: int) -> Tensor:
        return torch.randn(count, DIMENSIONS, 1, 1, generator=torch.Generator().manual_seed(seed))

    labels = torch.arange(count) % COMPONENTS
    whole = partial(mixture_velocity, labels=labels, cfg=cfg)
    return Problem(
        "mixture", cfg, lambda rows: partial(mixture_velocity, labels=labels[rows], cfg=cfg), noise(0),
        [(whole, noise(seed)) for seed in range(1, 6)],
    )  # fmt: skip


@cache
def demo_pipeline() -> TiMPipeline:
    pipeline = TiMPipeline.from_files(BUNDLED["model"], BUNDLED["text_encoder"], BUNDLED["vae"], device="cpu")
    pipeline.net.requires_grad_(False)
    return pipeline


def demo(cfg: float, count: int = 8, size: tuple[int, int] = (64, 64)) -> Problem:
    """The demo network's velocity, every call guided; prompts of 2x2 cells."""
    pipeline = demo_pipeline()
    made = [prompt.text for prompt in make_prompts(32, seed=1, shape=(2, 2))]
    prompts = Random(0).sample(made, count + 5 * OTHERS)
    starts = [0, *range(count, len(prompts), OTHERS)]
    batches = [pipeline.text(prompts[i:j]) for i, j in pairwise([*starts, len(prompts)])]
    noises = [pipeline.noise(size, len(batch.context), seed) for seed, batch in enumerate(batches)]

    def field(condition, rows: slice = slice(None)) -> Velocity:
        return velocity_of(pipeline.net, *(c[rows] for c in condition), cfg=cfg)

    def transitions(noise: Tensor, times: list[float]) -> Tensor:
        return sample(pipeline.net, noise, times, *batches[0], cfg=cfg, guidance_interval=EVERY_CALL)

    others = [(field(condition), noise) for condition, noise in zip(batches[1:], noises[1:])]
    return Problem("demo", cfg, partial(field, batches[0]), noises[0], others, transitions)


def reference(problem: Problem) -> Tensor:
    """The end of the path from t = 1 to 0 by RK4 in equal steps, the last one by the midpoint rule, not asking at 0."""
    steps, exact = REFERENCE_STEPS[problem.name], problem.name == "mixture"
    velocity, h = problem.field(slice(None)), -1 / steps
    x = problem.noise.double() if exact else problem.noise
    for i in range(steps):
        t = 1 - i / steps
        k1 = velocity(x, t)
        k2 = velocity(x + h / 2 * k1, t + h / 2)
        if i == steps - 1:
            return (x + h * k2).float()
        k3 = velocity(x + h / 2 * k2, t + h / 2)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + velocity(x + h * k3, t + h))
    raise AssertionError("unreachable")
