"""Measure the any-step promise: python -m training.evaluate [--steps 1,4,16] [--out FOLDER]

A text model draws prompts of FashionScenes at several numbers of steps, from the same noise, and a judge says which
pictures show what was asked for: a small GenEval (arXiv 2310.11513). FOLDER gets scores.json, scores.md (a table),
scores.png (a plot) and samples.png; with several guidance scales scores-cfgX.json of each, and the last in scores.json.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tim_model import TiMPipeline
from tim_model.console import escape_unprintable
from tim_model.pictures import save_png

from .captions import ITEMS
from .classifier import ItemClassifier, load_classifier
from .command import status_of
from .jury import Jury, Real, judge_real
from .painter import Painter
from .plots import sample_sheet, score_plot
from .scenes import Items, parse_shape, task_lines
from .scores import Score, columns, table, write_json, write_text
from .tasks import TaskLine, read_tasks

MODELS = Path(__file__).resolve().parents[1] / "models"
BUNDLED = {
    "model": MODELS / "diffusion_models" / "tim-fashion-scenes-t2i.safetensors",
    "text_encoder": MODELS / "text_encoders" / "gemma-fashion-scenes.safetensors",
    "vae": MODELS / "vae" / "dc-ae-fashion-scenes.safetensors",
    "classifier": MODELS / "evaluation" / "fashion-classifier.safetensors",
    "data": Path("/usr/share/datasets/fashion-mnist"),  # of the Debian package dataset-fashion-mnist
}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. What cannot be done is one line on stderr."""
    escape_unprintable()
    arguments = parser().parse_args(argv)
    return status_of(lambda: evaluate(arguments))


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__.splitlines()[0])
    command.set_defaults(**BUNDLED)
    add = command.add_argument
    add("--model", type=Path, help="TiM checkpoint for text (default: the bundled one, as for the next three)")
    add("--text-encoder", type=Path, help="folder of Gemma-3 or a packed file")
    add("--vae", help='VAE in the layout of diffusers, "" for pixel-space models')
    add("--classifier", type=Path, help="a file of training.classifier")
    add("--data", type=Path, help="folder of Fashion-MNIST, whose test split real scenes show (default: %(default)s)")
    add("--steps", default="1,2,4,8,16,32,64,128", help="numbers of steps (default: %(default)s)")
    add("--cfg", default="2.5", help="guidance scales, 1 for none (default: %(default)s)")
    add("--velocity", action="store_true", help="give the network r = t, for flow-matching checkpoints")
    add("--tasks", type=Path, help="a .jsonl file of python -m training.scenes --tasks; without it prompts are made")
    add("--per-task", type=int, default=32, help="prompts of each task to make (default: %(default)s)")
    add("--shape", help="columns x rows of the canvases to make, such as 4x3; those of training by default")
    add("--seed", type=int, default=0, help="of the noise and of the prompts to make (default: %(default)s)")
    add("--batch", type=int, default=32, help="pictures drawn at once (default: %(default)s)")
    add("--device", help="cpu, cuda, mps (default: the best there is)")
    add("--out", type=Path, default=Path("runs/evaluation"), help="folder to write (default: %(default)s)")
    return command


def evaluate(a: argparse.Namespace) -> None:
    """Draw, judge and write; ValueError, in one line, for what cannot be done."""
    steps, scales = sorted(numbers("--steps", a.steps, int)), numbers("--cfg", a.cfg, float)
    lines = read_lines(a)
    classifier = load_judge(a.classifier)
    painter = load_painter(a, lines)
    a.out.mkdir(parents=True, exist_ok=True)
    real = judge_items(a.data, classifier, painter)
    jury = Jury(classifier, lines, real and real.reference)
    header = {"model": a.model.name, "count": len(lines), "seed": a.seed, "velocity": a.velocity}
    found: dict[float, list[Score]] = {}
    with tqdm(total=len(scales) * sum(steps) * len(lines), desc="drawing", unit="step", disable=None) as bar:
        for cfg in scales:
            found[cfg], shown = measure(painter, jury, steps, cfg, bar)
            content = {**header, "cfg": cfg, "steps": steps, **columns(found[cfg]), **real_entries(real)}
            for name in [f"scores-cfg{cfg:g}.json"] * (len(scales) > 1) + ["scores.json"]:
                write_json(a.out / name, content)
    write_text(a.out / "scores.md", markdown(header, steps, found, real))
    plot = score_plot(steps, {f"cfg {cfg:g}": scores for cfg, scores in found.items()}, real and real.bound.overall)
    save_png(plot, a.out / "scores.png", header)
    prompts = [lines[i].prompt for i in sheet_places(lines)]
    sheet = sample_sheet([list(row) for row in zip(*shown)], prompts, steps)
    save_png(sheet, a.out / "samples.png", {**header, "cfg": scales[-1]})


def numbers(option: str, text: str, kind: type[int | float]) -> list[int] | list[float]:
    """The different numbers of a list such as "1,4,16", all from 1."""
    try:
        values = list(dict.fromkeys(kind(word) for word in text.split(",")))
    except ValueError:
        values = [math.nan]
    if not all(1 <= value < math.inf for value in values):
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{option} {text!r}: expected {what} from 1, separated by commas")
    return values


def read_lines(a: argparse.Namespace) -> list[TaskLine]:
    """The prompts of --tasks, else those that the other options describe."""
    if not 0 <= a.seed < 2**63:
        raise ValueError(f"--seed {a.seed}: expected a number from 0 to 2^63 - 1")
    if a.tasks:
        return read_tasks(a.tasks)
    shape = parse_shape(a.shape) if a.shape else None
    return [TaskLine(**line) for line in task_lines(a.per_task, a.seed, shape)]


def load_judge(path: Path) -> ItemClassifier:
    """The classifier of a file; ValueError for one with other labels than Fashion-MNIST's."""
    classifier = load_classifier(path)
    if len(classifier.class_names) <= max(ITEMS.values()):
        raise ValueError(f"{path}: tells {len(classifier.class_names)} classes apart, expected Fashion-MNIST's 10")
    return classifier


def load_painter(a: argparse.Namespace, lines: Sequence[TaskLine]) -> Painter:
    """The model, with all prompts encoded; ValueError where it cannot draw them."""
    if a.batch < 1:
        raise ValueError(f"--batch {a.batch}: expected a number from 1")
    pipeline = TiMPipeline.from_files(a.model, a.text_encoder, a.vae, a.device)
    painter = Painter(pipeline, lines, pipeline.text([line.prompt for line in lines]), a.seed, a.batch, a.velocity)
    painter.batches()  # refuses sizes that the model cannot have, before the work begins
    return painter


def judge_items(folder: Path, classifier: ItemClassifier, painter: Painter) -> Real | None:
    """What the judge makes of held-out items, and a line that says it; None where the folder lacks them."""
    try:
        items = Items(folder, "test")
    except ValueError as error:
        print(f"no real scenes to compare with, so no Fréchet distance: {error}")
        return None
    real = judge_real(items, classifier, painter)
    a = real.accuracy
    print(
        f"judge on real scenes: {real.bound.overall:.0%} accepted, {real.reconstructed.overall:.0%} through the VAE "
        f"(items {a.items:.1%}, colors {a.colors:.1%}, empty cells {a.cells:.1%})"
    )
    return real


def measure(
    painter: Painter, jury: Jury, steps: Sequence[int], cfg: float, bar: tqdm
) -> tuple[list[Score], list[list[np.ndarray]]]:
    """The score at each number of steps, and the pictures then drawn of the prompts for the sheet."""
    scores, shown = [], []
    for n in steps:
        pictures = painter.draw(n, cfg, bar)
        scores.append(jury.score(pictures))
        shown.append([pictures[i] for i in sheet_places(painter.lines)])
    return scores, shown


def sheet_places(lines: Sequence[TaskLine]) -> list[int]:
    """Places of prompts of different tasks with pictures of one size, that which has most tasks and is largest."""
    sizes: dict[tuple[int, int], dict[str, int]] = {}
    for i, line in enumerate(lines):
        if not line.unseen:
            sizes.setdefault((line.width, line.height), {}).setdefault(line.task, i)
    _, places = max(sizes.items(), key=lambda entry: (len(entry[1]), math.prod(entry[0])))
    return list(places.values())


def real_entries(real: Real | None) -> dict[str, object]:
    """For scores.json: the judge's accuracy on real things and the scores of real scenes, null where not known."""
    names = ("classifier_accuracy", "color_accuracy", "emptiness_accuracy", "real", "reconstructed")
    if real is None:
        return dict.fromkeys(names)
    return dict(zip(names, [*real.accuracy, asdict(real.bound), asdict(real.reconstructed)], strict=True))


def markdown(
    header: Mapping[str, object], steps: Sequence[int], found: Mapping[float, Sequence[Score]], real: Real | None
) -> str:
    """A table for each guidance scale."""
    bounds = {"real scenes": real.bound, "through the VAE": real.reconstructed} if real else {}
    texts = [
        "Percentages of accepted pictures over the number of steps, with 95% intervals. "
        + ", ".join(f"{name}: {value}" for name, value in header.items())
    ]
    for cfg, scores in found.items():
        named = {str(n): score for n, score in zip(steps, scores, strict=True)}
        texts.append(f"cfg {cfg:g}\n\n{table({**named, **bounds})}")
    return "\n\n".join(texts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
