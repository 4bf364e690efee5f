"""training.scores: means over tasks, intervals as known in closed form, and what the files say."""

from __future__ import annotations

import json
import math
from statistics import NormalDist

import pytest

from training.evaluation.scores import Score, columns, interval, read_scores, score, table, write_json
from training.scenes.prompts import Prompt


def prompt(task: str, unseen: bool = False) -> Prompt:
    return Prompt(task, "", 32, 32, {}, unseen)


def verdicts(accepted: int, count: int) -> list[bool]:
    return [i < accepted for i in range(count)]


def quantile(probability: float, n: int, p: float) -> int:
    """Of the binomial distribution."""
    total = 0.0
    for k in range(n + 1):
        total += math.comb(n, k) * p**k * (1 - p) ** (n - k)
        if total >= probability:
            return k
    return n


def test_tasks_count_alike_however_many_prompts_they_have():
    prompts = [prompt("a"), prompt("b"), prompt("a"), prompt("b"), prompt("a"), prompt("a")]
    found = score([True, True, False, True, False, False], prompts, 3.5)
    assert found.tasks == {"a": 0.25, "b": 1}
    assert found.overall == (0.25 + 1) / 2
    assert found.unseen is None and found.frechet == 3.5


def test_unseen_combinations_stay_apart():
    prompts = [prompt("a"), prompt("a", unseen=True), prompt("a", unseen=True), prompt("b", unseen=True)]
    found = score([False, True, False, True], prompts)
    assert (found.overall, found.ci, found.tasks) == (0, (0, 0), {"a": 0})
    assert found.unseen == (0.5 + 1) / 2


@pytest.mark.parametrize(("accepted", "count"), [(70, 100), (3, 40), (1, 4)])
def test_interval_of_one_task_is_the_binomial_one(accepted, count):
    low, high = interval([verdicts(accepted, count)])
    p = accepted / count
    assert low == pytest.approx(quantile(0.025, count, p) / count, abs=1.01 / count)
    assert high == pytest.approx(quantile(0.975, count, p) / count, abs=1.01 / count)


def test_interval_of_many_verdicts_is_the_normal_one_within_tasks():
    groups = [verdicts(900, 1000), verdicts(100, 1000), verdicts(50, 200)]
    variance = sum(p * (1 - p) / n for p, n in ((0.9, 1000), (0.1, 1000), (0.25, 200))) / 3**2
    width = NormalDist().inv_cdf(0.975) * math.sqrt(variance)
    mean = (0.9 + 0.1 + 0.25) / 3
    assert interval(groups) == pytest.approx((mean - width, mean + width), abs=0.1 * width)
    assert interval(groups, 0.5) == pytest.approx((mean - 0.344 * width, mean + 0.344 * width), abs=0.1 * width)


def test_interval_is_the_same_each_time():
    groups = [verdicts(3, 7), verdicts(5, 9)]
    assert interval(groups) == interval(groups)
    assert interval([verdicts(5, 5)]) == (1, 1)


SCORES = [Score(0.25, (0.1, 0.5), {"a": 0, "b": 0.5}), Score(1, (1, 1), {"a": 1, "b": 1}, 0.125, 12.345)]


def test_json_lists_the_scores_by_their_parts(tmp_path):
    write_json(tmp_path / "scores.json", {"steps": [1, 2], **columns(SCORES)})
    assert json.loads((tmp_path / "scores.json").read_text()) == {
        "steps": [1, 2], "overall": [0.25, 1], "ci": [[0.1, 0.5], [1, 1]], "unseen": [None, 0.125],
        "frechet": [None, 12.345], "tasks": {"a": [0, 1], "b": [0.5, 1]},
    }  # fmt: skip


def test_scores_are_read_as_they_were_written(tmp_path):
    write_json(tmp_path / "scores.json", {"steps": [1, 2], **columns(SCORES)})
    assert read_scores(tmp_path / "scores.json") == dict(zip([1, 2], SCORES))


def test_table_has_a_row_for_each_task_and_a_column_for_each_score():
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in table({"1": SCORES[0], "x": SCORES[1]}).splitlines()
    ]
    assert rows[0] == ["", "1", "x"]
    assert rows[2:] == [
        ["a", "0.0", "100.0"],
        ["b", "50.0", "100.0"],
        ["**overall**", "**25.0** (10.0–50.0)", "**100.0** (100.0–100.0)"],
        ["unseen combinations", "–", "12.5"],
        ["Fréchet distance", "–", "12.35"],
    ]
