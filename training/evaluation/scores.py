"""Scores of an evaluation from its verdicts, and their files: JSON and a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tim_model.files.tensor_files import write_text

from ..scenes.prompts import Prompt

RESAMPLES = 10_000


@dataclass(frozen=True)
class Score:
    """The score of one set of images.

    Args:
        overall: mean of the tasks' shares of accepted images, as in GenEval; prompts of unseen combinations are
            counted in `unseen` alone, which is None without such prompts.
        ci: 95% interval of `overall`.
        frechet: distance to real scenes; None if unknown.
    """

    overall: float
    ci: tuple[float, float]
    tasks: dict[str, float]
    unseen: float | None = None
    frechet: float | None = None


def score(accepted: Sequence[bool], prompts: Sequence[Prompt], frechet: float | None = None) -> Score:
    """The score of images of `prompts`, each accepted or not."""
    seen, unseen = (by_task(accepted, prompts, apart) for apart in (False, True))
    tasks = {task: share(verdicts) for task, verdicts in seen.items()}
    apart = share([share(verdicts) for verdicts in unseen.values()]) if unseen else None
    return Score(share(list(tasks.values())), interval(list(seen.values())), tasks, apart, frechet)


def by_task(accepted: Sequence[bool], prompts: Sequence[Prompt], unseen: bool) -> dict[str, list[bool]]:
    """The verdicts by task, in the order in which tasks first occur."""
    groups: dict[str, list[bool]] = {}
    for verdict, prompt in zip(accepted, prompts, strict=True):
        if prompt.unseen == unseen:
            groups.setdefault(prompt.task, []).append(bool(verdict))
    return groups


def share(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def interval(groups: Sequence[Sequence[bool]], confidence: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of the mean of the groups' shares, resampled within each group.

    The number of accepted verdicts among n drawn with replacement is binomial, so it is drawn directly. If all verdicts
    of all groups agree, the interval is a point, as with every bootstrap.
    """
    random = np.random.default_rng(0)
    shares = [random.binomial(len(group), share(group), RESAMPLES) / len(group) for group in groups]
    low, high = np.quantile(np.mean(shares, axis=0), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def columns(scores: Sequence[Score]) -> dict[str, object]:
    """Lists over the scores, by the names of their parts, ready for JSON; "tasks" holds a list for each task."""
    listed = {name: [getattr(s, name) for s in scores] for name in ("overall", "ci", "unseen", "frechet")}
    return {**listed, "tasks": {task: [s.tasks[task] for s in scores] for task in scores[0].tasks}}


def read_scores(path: Path) -> dict[int, Score]:
    """The scores in a scores.json, by their numbers of steps."""
    content = json.loads(path.read_text(encoding="utf-8"))
    lists = [content[name] for name in ("steps", "overall", "ci", "unseen", "frechet")]
    found = {}
    for i, (steps, overall, ci, unseen, frechet) in enumerate(zip(*lists, strict=True)):
        tasks = {task: values[i] for task, values in content["tasks"].items()}
        found[steps] = Score(overall, tuple(ci), tasks, unseen, frechet)
    return found


def table(scores: Mapping[str, Score]) -> str:
    """Markdown: a column for each score, under its name, and a row for each task."""
    found = list(scores.values())
    rows = {task: [percent(s.tasks[task]) for s in found] for task in found[0].tasks}
    rows["**overall**"] = [f"**{percent(s.overall)}** ({percent(s.ci[0])}–{percent(s.ci[1])})" for s in found]
    rows["unseen combinations"] = [percent(s.unseen) for s in found]
    rows["Fréchet distance"] = ["–" if s.frechet is None else f"{s.frechet:.2f}" for s in found]
    lines = [["", *scores], ["---"] + ["---:"] * len(found), *([name, *cells] for name, cells in rows.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write an object as JSON with one entry per line."""
    entries = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
    write_text(path, "{\n" + ",\n".join(entries) + "\n}\n")
