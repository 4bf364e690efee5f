"""Accepted images of the demo by how its steps are taken: python -m benchmarks.schedules restarts|tuned [--per-task N]

- restarts: shares of restarts over numbers of calls and guidance, on uniform times and on those that suit them best.
- tuned: the stock schedules and the one of tune-schedule, without guidance, over numbers of steps.

All ways draw the same prompts from the same noise; differences are paired. FOLDER gets a table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.solvers.acceptance import AcceptanceScorer, Verdicts
from benchmarks.solvers.problems import GUIDED, demo_pipeline
from tim_model import SCHEDULES, make_times, sample
from tim_model.sampling.noise import image_noise_stream
from tim_model.sampling.tuned import TUNED, read_schedules
from training.evaluation.bundled import BUNDLED
from training.evaluation.scores import write_text

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
STEPS = (2, 3, 4)
CALLS = {"2": make_times("uniform", 2), "2, by .6": [1.0, 0.6, 0.0]}
CALLS |= {str(n): make_times("uniform", n) for n in (3, 4, 8)}


def drawn(scorer: AcceptanceScorer, times: list[float], cfg: float, restart: float = 0.0) -> Verdicts:
    """Images of all prompts by transitions through `times`, guided as published."""

    def drawing(noise, places, condition):
        options = {"restart": restart, "noise_fn": image_noise_stream(1000 + places[0])}
        return sample(scorer.sampler.pipeline.net, noise, times, *condition, cfg=cfg, **options)

    return scorer.score(drawing)


def restart_tables(scorer: AcceptanceScorer) -> str:
    texts = []
    for cfg in (1.0, GUIDED):
        rows = {f"{share:g}": [drawn(scorer, times, cfg, share) for times in CALLS.values()] for share in SHARES}
        texts.append(f"cfg {cfg:g}\n\n{scorer.table('restart', rows, list(CALLS), '0')}")
    return "\n".join(texts)


def schedule_table(scorer: AcceptanceScorer) -> str:
    tuned = read_schedules(BUNDLED["model"])
    rows = {kind: [drawn(scorer, make_times(kind, steps), 1.0) for steps in STEPS] for kind in SCHEDULES}
    rows[TUNED] = [drawn(scorer, tuned.of(steps), 1.0) for steps in STEPS]
    return "tuned\n\n" + scorer.table("steps", rows, list(map(str, STEPS)), "uniform")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedules", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["restarts", TUNED])
    parser.add_argument("--per-task", type=int, default=64, help="prompts of each task (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/schedules"), help="folder (default: %(default)s)")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    tables = {"restarts": restart_tables, TUNED: schedule_table}[a.what]
    text = tables(AcceptanceScorer.of_prompts(demo_pipeline(), a.per_task))
    print(text)
    write_text(a.out / f"{a.what}.md", text)


if __name__ == "__main__":
    main()
