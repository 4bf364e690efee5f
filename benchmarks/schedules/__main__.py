"""Accepted images of the demo by how its steps are taken: python -m benchmarks.schedules restarts|tuned|adaptive

- restarts: shares of restarts over numbers of steps and guidance, on uniform times.
- tuned: the stock schedules and the one of tune-schedule, over numbers of steps and guidance.
- adaptive: tolerances, against uniform times with as many steps as images take in the mean, rounded down.

All ways draw the same prompts from the same noise; differences are paired. FOLDER gets a table.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path
from statistics import fmean

from torch import Tensor

from benchmarks.solvers.acceptance import AcceptanceScorer, Verdicts
from benchmarks.solvers.problems import GUIDED, demo_pipeline
from tim_model import SCHEDULES, make_times, sample
from tim_model.sampling.adaptive import sample_adaptively
from tim_model.sampling.noise import image_noise_stream
from tim_model.sampling.tuned import TUNED, read_schedules
from training.evaluation.bundled import BUNDLED
from training.evaluation.scores import write_text

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
RESTART_STEPS, TUNED_STEPS = (2, 3, 4, 8), (2, 3, 4, 8)
MOST, TOLERANCES = (8, 12), (0.05, 0.08, 0.1, 0.15)  # network calls, and what chooses among them


def drawn(scorer: AcceptanceScorer, times: list[float], cfg: float, restart: float = 0.0) -> Verdicts:
    """Images of all prompts by transitions through `times`, guided as published."""

    def drawing(noise, places, condition):
        options = {"restart": restart, "noise_fn": image_noise_stream(1000 + places[0])}
        return sample(scorer.sampler.pipeline.net, noise, times, *condition, cfg=cfg, **options)

    return scorer.score(drawing)


def restart_table(scorer: AcceptanceScorer, cfg: float) -> str:
    rows = {
        f"{share:g}": [drawn(scorer, make_times("uniform", steps), cfg, share) for steps in RESTART_STEPS]
        for share in SHARES
    }
    return scorer.table("restart", rows, list(map(str, RESTART_STEPS)), "0")


def schedule_table(scorer: AcceptanceScorer, cfg: float) -> str:
    tuned = read_schedules(BUNDLED["model"])
    rows = {kind: [drawn(scorer, make_times(kind, steps), cfg) for steps in TUNED_STEPS] for kind in SCHEDULES}
    rows[TUNED] = [drawn(scorer, tuned.of(steps), cfg) for steps in TUNED_STEPS]
    return scorer.table("steps", rows, list(map(str, TUNED_STEPS)), "uniform")


def adaptive_table(scorer: AcceptanceScorer, cfg: float) -> str:
    """A row for each cap and tolerance: the mean calls of an image drawn alone, its score and that of equal steps."""

    @cache
    def uniform(steps: int) -> Verdicts:
        return drawn(scorer, make_times("uniform", steps), cfg)

    lines = ["| most calls | tolerance | calls | accepted | as many equal steps |", "|---|---|---|---|---|"]
    for most in MOST:
        for tolerance in TOLERANCES:
            verdicts, calls = drawn_adaptively(scorer, most, tolerance, cfg)
            steps = int(calls)
            cell = scorer.cell(verdicts, uniform(steps), itself=False)
            equal = scorer.cell(uniform(steps), uniform(steps), itself=True)
            lines.append(f"| {most} | {tolerance:g} | {calls:.2f} | {cell} | {equal} ({steps}) |")
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def drawn_adaptively(scorer: AcceptanceScorer, most: int, tolerance: float, cfg: float) -> tuple[Verdicts, float]:
    """Images of all prompts, and the calls that those which count would take in the mean if drawn alone."""
    prompts, taken = scorer.sampler.prompts, {}

    def drawing(noise: Tensor, places: list[int], condition: tuple[Tensor, Tensor]) -> Tensor:
        context, null_context = condition
        taken.update(dict.fromkeys(places, 0))

        def net(x: Tensor, t: Tensor, r: Tensor, features: Tensor) -> Tensor:
            if features is context:  # not the null pass
                for i, moves in zip(places, (r < t).tolist(), strict=True):
                    taken[i] += moves
            return scorer.sampler.pipeline.net(x, t, r, features)

        return sample_adaptively(net, noise, make_times("uniform", most), tolerance, context, null_context, cfg=cfg)

    verdicts = scorer.score(drawing)
    return verdicts, fmean(count for i, count in taken.items() if not prompts[i].unseen)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedules", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["restarts", TUNED, "adaptive"])
    parser.add_argument("--per-task", type=int, default=64, help="prompts of each task (default: %(default)s)")
    parser.add_argument("--cfg", type=float, action="append", help=f"guidance scale (default: 1 and {GUIDED})")
    parser.add_argument("--out", type=Path, default=Path("runs/schedules"), help="folder (default: %(default)s)")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    table = {"restarts": restart_table, TUNED: schedule_table, "adaptive": adaptive_table}[a.what]
    scorer = AcceptanceScorer.of_prompts(demo_pipeline(), a.per_task)
    text = "\n".join(f"{a.what}, cfg {cfg:g}\n\n{table(scorer, cfg)}" for cfg in a.cfg or (1.0, GUIDED))
    print(text)
    write_text(a.out / f"{a.what}.md", text)


if __name__ == "__main__":
    main()
