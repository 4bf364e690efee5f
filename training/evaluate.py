"""Measure image quality over the number of steps: python -m training.evaluate [--steps 1,4,16] [--out FOLDER]

A text model generates images for prompts of FashionScenes or EmojiScenes at several numbers of steps, from the same
noise, and a recognizer checks which images satisfy their prompts: a small GenEval (arXiv 2310.11513). FOLDER gets
scores.json, scores.md (a table), scores.png (a plot) and samples.png. With several guidance scales, each gets a
scores-cfgX.json, and scores.json holds the last one.
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
from tim_model.files.tensor_files import write_text
from tim_model.images import save_png

from .evaluation.drawing import PromptSampler
from .evaluation.kinds import DEFAULT, KINDS, Kind, kind_of
from .evaluation.plots import sample_sheet, score_plot
from .evaluation.recognizers import SceneRecognizer
from .evaluation.scores import Score, columns, table, write_json
from .evaluation.scoring import Reference, Scorer, score_reference
from .processes.command import run_command
from .scenes.__main__ import parse_shape
from .scenes.prompts import Prompt, read_prompts


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. Errors are one line on stderr."""
    return run_command(parser(), evaluate, argv)


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__.splitlines()[0])
    add = command.add_argument
    add("--scenes", choices=KINDS, help=f"what the model draws (default: what --tasks says, else {DEFAULT})")
    add("--model", type=Path, help="TiM checkpoint for text (default: that of the scenes, as for the next four)")
    add("--text-encoder", type=Path, help="folder of Gemma-3 or a packed file")
    add("--vae", help='VAE in the layout of diffusers, "" for pixel-space models')
    add("--classifier", type=Path, help="a file of training.classifier or training.emoji classifier")
    add("--data", type=Path, help="folder of Fashion-MNIST, whose test split real scenes show, or of emoji drawings")
    add("--steps", default="1,2,4,8,16,32,64,128", help="numbers of steps (default: %(default)s)")
    add("--cfg", default="2.5", help="guidance scales, 1 for none (default: %(default)s)")
    add("--velocity", action="store_true", help="give the network r = t, for flow-matching checkpoints")
    add("--tasks", type=Path, help="a .jsonl file of python -m training.scenes --tasks; without it prompts are made")
    add("--per-task", type=int, default=32, help="prompts of each task to make (default: %(default)s)")
    add("--shape", help="columns x rows of the canvases to make, such as 4x3; those of training by default")
    add("--seed", type=int, default=0, help="of the noise and of the prompts to make (default: %(default)s)")
    add("--batch", type=int, default=32, help="images drawn at once (default: %(default)s)")
    add("--device", help="cpu, cuda, mps (default: the best there is)")
    add("--out", type=Path, default=Path("runs/evaluation"), help="folder to write (default: %(default)s)")
    return command


def evaluate(a: argparse.Namespace) -> None:
    """Generate images, score them and write the results; ValueError in one line for bad input."""
    steps, scales = sorted(numbers("--steps", a.steps, int)), numbers("--cfg", a.cfg, float)
    kind = KINDS[a.scenes or (kind_of(a.tasks) if a.tasks else DEFAULT)]
    vars(a).update({name: path for name, path in kind.files.items() if getattr(a, name) is None})
    prompts = read_or_make_prompts(a, kind)
    recognizer = kind.load_recognizer(a.classifier)
    sampler = load_sampler(a, prompts)
    a.out.mkdir(parents=True, exist_ok=True)
    real = score_data(kind, a.data, recognizer, sampler)
    scorer = Scorer(recognizer, prompts, real and real.reference)
    header = {"model": a.model.name, "count": len(prompts), "seed": a.seed, "velocity": a.velocity}
    found: dict[float, list[Score]] = {}
    with tqdm(total=len(scales) * sum(steps) * len(prompts), desc="drawing", unit="step", disable=None) as bar:
        for cfg in scales:
            found[cfg], shown = measure(sampler, scorer, steps, cfg, bar)
            content = {**header, "cfg": cfg, "steps": steps, **columns(found[cfg]), **real_entries(real)}
            for name in [f"scores-cfg{cfg:g}.json"] * (len(scales) > 1) + ["scores.json"]:
                write_json(a.out / name, content)
    write_text(a.out / "scores.md", markdown(header, steps, found, real))
    plot = score_plot(steps, {f"cfg {cfg:g}": scores for cfg, scores in found.items()}, real and real.bound.overall)
    save_png(plot, a.out / "scores.png", header)
    texts = [prompts[i].text for i in sheet_places(prompts)]
    sheet = sample_sheet([list(row) for row in zip(*shown)], texts, steps)
    save_png(sheet, a.out / "samples.png", {**header, "cfg": scales[-1]})


def numbers(option: str, text: str, kind: type[int | float]) -> list[int] | list[float]:
    """The distinct numbers of a list such as "1,4,16", each at least 1."""
    try:
        values = list(dict.fromkeys(kind(word) for word in text.split(",")))
    except ValueError:
        values = [math.nan]
    if not all(1 <= value < math.inf for value in values):
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{option} {text!r}: expected {what} from 1, separated by commas")
    return values


def read_or_make_prompts(a: argparse.Namespace, kind: Kind) -> list[Prompt]:
    """The prompts of --tasks, else prompts made by the other options."""
    if not 0 <= a.seed < 2**63:
        raise ValueError(f"--seed {a.seed}: expected a number from 0 to 2^63 - 1")
    if a.tasks:
        return read_prompts(a.tasks, kind.cell, kind.check)
    shape = parse_shape(a.shape) if a.shape else None
    return kind.make_prompts(a.per_task, a.seed, shape)


def load_sampler(a: argparse.Namespace, prompts: Sequence[Prompt]) -> PromptSampler:
    """The model with all prompts encoded; ValueError if it cannot generate them."""
    if a.batch < 1:
        raise ValueError(f"--batch {a.batch}: expected a number from 1")
    pipeline = TiMPipeline.from_files(a.model, a.text_encoder, a.vae, a.device)
    sampler = PromptSampler(
        pipeline, prompts, pipeline.text([prompt.text for prompt in prompts]), a.seed, a.batch, a.velocity
    )
    sampler.batches()  # refuses unsupported sizes before the work begins
    return sampler


def score_data(kind: Kind, folder: Path, recognizer: SceneRecognizer, sampler: PromptSampler) -> Reference | None:
    """Score real scenes and print the result; None if the folder does not hold their source."""
    try:
        data = kind.read_data(folder)
    except ValueError as error:
        print(f"no real scenes to compare with, so no Fréchet distance: {error}")
        return None
    real = score_reference(data, recognizer, sampler)
    a = real.accuracy
    print(
        f"recognizer on real scenes: {real.bound.overall:.0%} accepted, {real.reconstructed.overall:.0%} through the "
        f"VAE (items {a.items:.1%}, colors {a.colors:.1%}, empty cells {a.cells:.1%})"
    )
    return real


def measure(
    sampler: PromptSampler, scorer: Scorer, steps: Sequence[int], cfg: float, bar: tqdm
) -> tuple[list[Score], list[list[np.ndarray]]]:
    """The score at each number of steps, and the images of the prompts on the sheet."""
    scores, shown = [], []
    for n in steps:
        images = sampler.draw(n, cfg, bar)
        scores.append(scorer.score(images))
        shown.append([images[i] for i in sheet_places(sampler.prompts)])
    return scores, shown


def sheet_places(prompts: Sequence[Prompt]) -> list[int]:
    """Indices of prompts of different tasks with one image size: the size with most tasks, and the largest of those."""
    sizes: dict[tuple[int, int], dict[str, int]] = {}
    for i, prompt in enumerate(prompts):
        if not prompt.unseen:
            sizes.setdefault((prompt.width, prompt.height), {}).setdefault(prompt.task, i)
    _, places = max(sizes.items(), key=lambda entry: (len(entry[1]), math.prod(entry[0])))
    return list(places.values())


def real_entries(real: Reference | None) -> dict[str, object]:
    """Entries of scores.json: the recognizer's accuracy and the scores of real scenes, null if unknown."""
    names = ("classifier_accuracy", "color_accuracy", "emptiness_accuracy", "real", "reconstructed")
    if real is None:
        return dict.fromkeys(names)
    return dict(zip(names, [*real.accuracy, asdict(real.bound), asdict(real.reconstructed)], strict=True))


def markdown(
    header: Mapping[str, object], steps: Sequence[int], found: Mapping[float, Sequence[Score]], real: Reference | None
) -> str:
    """A table for each guidance scale."""
    bounds = {"real scenes": real.bound, "through the VAE": real.reconstructed} if real else {}
    texts = [
        "Percentages of accepted images over the number of steps, with 95% intervals. "
        + ", ".join(f"{name}: {value}" for name, value in header.items())
    ]
    for cfg, scores in found.items():
        named = {str(n): score for n, score in zip(steps, scores, strict=True)}
        texts.append(f"cfg {cfg:g}\n\n{table({**named, **bounds})}")
    return "\n\n".join(texts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
