"""The demo network against a flow-matching baseline: scores over the number of steps.

    FM="training/recipes/demo/tim.yaml objective.name=flow_matching objective.guided=false"
    python -m training.train $FM objective.P_mean=0 optimizer.lr=2e-3 optimizer.warmup=300 run.seed=0 run.steps=8400 \
        run.folder=runs/demo/baseline-start
    python -m training.train $FM optimizer.lr=2e-3 run.steps=8400 run.folder=runs/demo/baseline-middle \
        model.checkpoint=runs/demo/baseline-start/model-ema.safetensors
    python -m training.train $FM run.seed=3 run.steps=8700 run.folder=runs/demo/baseline \
        model.checkpoint=runs/demo/baseline-middle/model-ema.safetensors
    python -m benchmarks.any_step runs/demo/baseline/model-ema.safetensors --per-task 64

Both draw the same prompts from the same noise, without guidance and with it; the baseline gets r = t. OUT gets
any_step.md, any_step.png, and a folder of training.evaluate for each. Scores that are there are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tim_model.files.tensor_files import write_text
from tim_model.images import save_png
from training.evaluate import main as evaluate
from training.evaluation.bundled import BUNDLED
from training.evaluation.plots import score_plot
from training.evaluation.scores import Score, percent, read_scores

SCALES = ("1", "2.5")
STEPS = "1,2,4,8,16,32,64,128"
Scores = dict[str, dict[int, Score]]  # by the name of a curve and the number of steps


def scored(folder: Path, per_task: int, *options: str) -> dict[str, dict[int, Score]]:
    """Scores of a model for each guidance scale, drawn unless they are in `folder`."""
    files = {cfg: folder / f"scores-cfg{cfg}.json" for cfg in SCALES}
    if not all(file.exists() for file in files.values()):
        arguments = ["--steps", STEPS, "--cfg", ",".join(SCALES), "--per-task", str(per_task), "--out", str(folder)]
        if evaluate([*arguments, *options]):
            raise SystemExit(1)
    return {cfg: read_scores(file) for cfg, file in files.items()}


def markdown(curves: Scores) -> str:
    """A row for each curve, accepted images in percent with their 95% interval, and one for its Fréchet distance."""
    steps = list(next(iter(curves.values())))
    rows = [["", *map(str, steps)], ["---"] + ["---:"] * len(steps)]
    for name, scores in curves.items():
        rows.append([name, *(f"{percent(s.overall)} ({percent(s.ci[0])}–{percent(s.ci[1])})" for s in scores.values())])
        distances = ["–" if s.frechet is None else f"{s.frechet:.1f}" for s in scores.values()]
        rows.append([f"{name}, Fréchet distance", *distances])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("baseline", type=Path, help="weights trained with objective.name=flow_matching")
    parser.add_argument("--model", type=Path, default=BUNDLED["model"], help="default: the bundled network")
    parser.add_argument("--per-task", type=int, default=32, help="prompts of each task (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/any_step"), help="folder (default: %(default)s)")
    a = parser.parse_args()
    tim = scored(a.out / "tim", a.per_task, "--model", str(a.model))
    baseline = scored(a.out / "baseline", a.per_task, "--model", str(a.baseline), "--velocity")
    names = {cfg: "" if cfg == "1" else f", cfg {cfg}" for cfg in SCALES}
    models = {"TiM": tim, "flow matching": baseline}
    curves = {f"{name}{names[cfg]}": scores[cfg] for cfg in SCALES for name, scores in models.items()}
    text = markdown(curves)
    print(text)
    write_text(a.out / "any_step.md", text)
    series = {name: list(scores.values()) for name, scores in curves.items()}
    save_png(score_plot(list(next(iter(curves.values()))), series), a.out / "any_step.png", {})


if __name__ == "__main__":
    main()
