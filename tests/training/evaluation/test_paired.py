from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.paired import paired_difference
from training.evaluation.scores import score
from training.scenes.folder import make_prompts

PROMPTS = make_prompts(32)


def verdicts(seed: int, share: float) -> list[bool]:
    return (np.random.default_rng(seed).random(len(PROMPTS)) < share).tolist()


def test_the_difference_is_that_of_the_scores():
    ours, theirs = verdicts(0, 0.8), verdicts(1, 0.5)
    found, low, high = paired_difference(ours, theirs, PROMPTS)
    assert found == pytest.approx(score(ours, PROMPTS).overall - score(theirs, PROMPTS).overall)
    assert 0 < low < found < high


def test_pairs_that_agree_have_narrow_intervals():
    """192 prompts: one that differs is half a point, whatever the others' spread."""
    ours = verdicts(0, 0.5)
    theirs = [not ours[0], *ours[1:]]
    _, low, high = paired_difference(ours, theirs, PROMPTS)
    assert high - low < 0.03
    assert paired_difference(ours, ours, PROMPTS) == (0, 0, 0)


def test_the_interval_covers_the_truth_in_95_of_100_cases():
    cases = [paired_difference(verdicts(2 * i, 0.7), verdicts(2 * i + 1, 0.6), PROMPTS) for i in range(200)]
    assert 0.9 < np.mean([low <= 0.1 <= high for _, low, high in cases]) < 0.99


def test_swapping_changes_the_sign():
    ours, theirs = verdicts(0, 0.8), verdicts(1, 0.5)
    found, low, high = paired_difference(ours, theirs, PROMPTS)
    assert paired_difference(theirs, ours, PROMPTS)[0] == -found
    assert paired_difference(theirs, ours, PROMPTS)[1:] == pytest.approx((-high, -low), abs=0.01)
