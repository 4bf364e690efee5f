"""Scores of the demo network on trained and other canvas shapes: python -m benchmarks.canvas_shapes [--out FOLDER]

The training data has canvases of 1x1 to 3x3 cells of 32 pixels. Every shape has its own prompts, of the tasks that fit
it, so scores of different shapes are of different tasks. The bound is the score of real scenes through the VAE.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tim_model.files.tensor_files import write_text
from training.evaluate import main as evaluate
from training.evaluation.scores import percent, read_scores
from training.scenes.__main__ import parse_shape

SHAPES = (
    "1x1", "2x1", "1x2", "2x2", "3x1", "1x3", "2x3", "3x2", "3x3",
    "4x1", "1x4", "2x4", "4x2", "3x4", "4x3", "4x4",
)  # fmt: skip
TRAINED_SIDE = 3  # cells


def row(shape: str, folder: Path, options: list[str]) -> list[str]:
    """The cells of a shape's row, drawn unless they are in `folder`."""
    if not (folder / "scores.json").exists() and evaluate(["--shape", shape, "--out", str(folder), *options]):
        raise SystemExit(1)
    content = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    scores = read_scores(folder / "scores.json").values()
    known = "yes" if max(parse_shape(shape)) <= TRAINED_SIDE else "no"
    found = [f"{percent(s.overall)} ({percent(s.ci[0])}–{percent(s.ci[1])})" for s in scores]
    bound = "–" if content["reconstructed"] is None else percent(content["reconstructed"]["overall"])
    return [shape, known, str(len(content["tasks"])), *found, bound]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", default="1,4,16", help="default: %(default)s")
    parser.add_argument("--cfg", default="2.5", help="guidance scale (default: %(default)s)")
    parser.add_argument("--per-task", default="32", help="prompts of each task (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/canvas_shapes"), help="folder (default: %(default)s)")
    a = parser.parse_args()
    options = ["--steps", a.steps, "--cfg", a.cfg, "--per-task", a.per_task]
    steps = [f"{n} steps" for n in sorted(map(int, a.steps.split(",")))]
    rows = [["cells", "in training", "tasks", *steps, "bound"], ["---"] * 3 + ["---:"] * (len(steps) + 1)]
    rows += [row(shape, a.out / shape, options) for shape in SHAPES]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n"
    print(text)
    write_text(a.out / "canvas_shapes.md", text)


if __name__ == "__main__":
    main()
