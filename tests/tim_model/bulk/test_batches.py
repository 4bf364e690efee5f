"""Batches: all files, each once, of one group; a text is spread over no more batches than it must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tim_model.bulk.batches import image_count, plan_batches, sample_seed
from tim_model.bulk.layouts import Sample, Target


def files(texts: list[str], count: int, per_file: int = 1) -> list[Target]:
    images = [[(i, j) for j in range(count)] for i in range(len(texts))]
    parts = [row[k : k + per_file] for row in images for k in range(0, count, per_file)]
    return [Target(Path(f"{part}.png"), tuple(Sample(*place) for place in part)) for part in parts]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64])
@pytest.mark.parametrize(("count", "per_file"), [(1, 1), (4, 1), (4, 4), (7, 1)])
def test_every_file_once_and_groups_apart(size, count, per_file):
    texts = ["a", "b c", "d", "a", "e f", "g", "b c"]
    targets = files(texts, count, per_file)
    batches = plan_batches(targets, lambda t: len(texts[t.prompt]), lambda t: texts[t.prompt], size)
    assert sorted(str(t.path) for batch in batches for t in batch) == sorted(str(t.path) for t in targets)
    for batch in batches:
        assert len({len(texts[target.prompt]) for target in batch}) == 1
        assert image_count(batch) <= max(size, per_file)
    for text in set(texts):
        holding = [batch for batch in batches if any(texts[t.prompt] == text for t in batch)]
        images = texts.count(text) * count
        if images <= size:
            assert len(holding) == 1  # so its features are computed once


def test_batches_are_full_where_one_text_has_many_images():
    targets = files(["a", "b"], 50)
    batches = plan_batches(targets, lambda t: 0, lambda t: t.prompt, 32)
    assert [image_count(batch) for batch in batches] == [32, 32, 32, 4]


def test_seeds_differ_and_stay():
    seeds = {sample_seed(seed, Sample(i, j)) for seed in (0, 1) for i in range(50) for j in range(50)}
    assert len(seeds) == 5000 and all(0 <= seed < 2**64 for seed in seeds)
    assert sample_seed(0, Sample(0, 0)) == 7765807450571155106
    assert sample_seed(7, Sample(552, 3)) == 8353400771867723572
