"""Compares how often two sets of images for the same prompts and noise are accepted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..scenes.prompts import Prompt
from .scores import RESAMPLES, by_task


def paired_difference(
    ours: Sequence[bool], theirs: Sequence[bool], prompts: Sequence[Prompt], confidence: float = 0.95
) -> tuple[float, float, float]:
    """The difference of two overall scores, ours minus theirs, and its bootstrap interval (low, high).

    The two verdicts on a prompt are resampled together, within each task, so that the effects of its difficulty and its
    noise cancel. Of n prompts drawn with replacement, the number that only one of them passes is multinomial, so it is
    drawn directly.
    """
    ours_by_task, theirs_by_task = (list(by_task(v, prompts, unseen=False).values()) for v in (ours, theirs))
    random = np.random.default_rng(0)
    means, draws = [], []
    for a, b in zip(ours_by_task, theirs_by_task, strict=True):
        won, lost = (sum(x and not y for x, y in zip(*pair)) for pair in ((a, b), (b, a)))
        counts = random.multinomial(len(a), [won / len(a), lost / len(a), 1 - (won + lost) / len(a)], RESAMPLES)
        means.append((won - lost) / len(a))
        draws.append((counts[:, 0] - counts[:, 1]) / len(a))
    low, high = np.quantile(np.mean(draws, axis=0), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(np.mean(means)), float(low), float(high)
