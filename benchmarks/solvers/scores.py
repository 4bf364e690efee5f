"""Accepted images of the demo's evaluation: TiM's transitions against solvers in velocity mode."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tim_model import make_times, sample
from tim_model.sampling.solvers.multistep import a_flops, ab2
from tim_model.sampling.solvers.steps import euler
from tim_model.sampling.solvers.velocity import velocity_of

from .acceptance import AcceptanceScorer, Verdicts
from .host import host_solvers
from .problems import GUIDED, demo_pipeline

BUDGETS = (4, 8)
TRANSITIONS = "TiM transitions"


def score_tables(per_task: int) -> str:
    """A table for each guidance scale."""
    scorer = AcceptanceScorer.of_prompts(demo_pipeline(), per_task)
    texts = [f"{len(scorer.sampler.prompts)} prompts, of which 3 in 4 are counted"]
    for cfg in (1.0, GUIDED):
        rows: dict[str, list[Verdicts]] = {}
        for name, way in ways(cfg).items():
            rows[name] = [way(scorer, calls) for calls in BUDGETS]
            print(cfg, name, flush=True)
        texts.append(f"cfg {cfg:g}\n\n{scorer.table('calls', rows, list(map(str, BUDGETS)), TRANSITIONS)}")
        print(texts[-1], flush=True)
    return "\n\n".join(texts)


def ways(cfg: float) -> dict[str, Callable[[AcceptanceScorer, int], Verdicts]]:
    solvers = {
        "Euler": euler, "AB2": ab2, "A-FloPS": a_flops,
        **{f"{name} (host)": solver for name, solver in host_solvers().items() if name == "dpmpp_2m"},
    }  # fmt: skip
    return {
        TRANSITIONS: partial(transitions, cfg),
        **{name: partial(solved, cfg, solver) for name, solver in solvers.items()},
    }


def transitions(cfg: float, scorer: AcceptanceScorer, calls: int) -> Verdicts:
    """As published: the step at t = 1 is not guided."""

    def drawing(noise: Tensor, places: list[int], condition: tuple[Tensor, Tensor]) -> Tensor:
        return sample(scorer.sampler.pipeline.net, noise, make_times("uniform", calls), *condition, cfg=cfg)

    return scorer.score(drawing)


def solved(cfg: float, solver: Callable, scorer: AcceptanceScorer, calls: int) -> Verdicts:
    """Every call is guided, as by the stock samplers."""
    times = make_times("uniform", calls)

    def drawing(noise: Tensor, places: list[int], condition: tuple[Tensor, Tensor]) -> Tensor:
        with torch.no_grad():
            return solver(velocity_of(scorer.sampler.pipeline.net, *condition, cfg=cfg), noise, times)

    return scorer.score(drawing)
