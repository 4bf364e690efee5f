"""The order of samples: pinned as it has always been, and weights of folders."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from training.config.data_schema import DataConfig, FolderConfig
from training.data.buckets import own_slice
from training.data.dataset import Dataset, Sample
from training.data.order import Copy, Order, dealt

SIZES = [(16, 16), (24, 16), (16, 32)]


def dataset(*counts: int, repeats: int = 1) -> Dataset:
    """Folders of that many samples, in three buckets each."""
    samples = [
        Sample(f"{folder}/{k}", f"{folder} {k}", SIZES[k % 3], (), 0, repeats, folder)
        for folder, n in enumerate(counts)
        for k in range(n)
    ]
    return Dataset("images", samples, [], ["one"])


def order(*counts: int, weights: list[float] = (), repeats: int = 1, seed: int = 3, **settings) -> Order:
    folders = [FolderConfig(f"f{k}", weight) for k, weight in enumerate(weights)]
    config = DataConfig(**{"path": "" if folders else "f", "folders": folders, "batch_size": 4} | settings)
    return Order(dataset(*counts, repeats=repeats), config, seed)


def epoch_of(order: Order, epoch: int) -> list[Copy]:
    return [copy for batch in order.epoch(epoch) for copy in batch]


def test_order_of_before():
    """States of older versions go on in the middle of an epoch: its order must never change."""
    found = order(20, repeats=2, mirror=True, held_out=3)
    rows = [[(copy.sample, copy.mirrored) for copy in batch] for k in range(3) for batch in found.epoch(k)]
    assert found.held_out == [11, 17, 19] and len(rows) == 51
    assert rows[0] == [(3, False), (6, False), (3, True), (15, False)]
    assert hashlib.sha256(repr(rows).encode()).hexdigest()[:16] == "e208aeb85fc8997e"


def test_weights_of_whole_numbers_are_repeats():
    found = order(5, 12, weights=[3, 1])
    for k in range(3):
        counts = Counter(copy.sample for copy in epoch_of(found, k))
        assert counts == {**dict.fromkeys(range(5), 3), **dict.fromkeys(range(5, 17), 1)}
        assert len({*epoch_of(found, k)}) == 27  # equal copies differ in their repeat
    plain, same = order(5, 12, weights=[1, 1]), order(17)
    assert sorted(epoch_of(plain, 0)) == sorted(epoch_of(same, 0))


@pytest.mark.parametrize("weight", [0.1, 0.5, 1.5, 2.2, 7 / 3])
def test_weights_of_fractions_are_fair_over_epochs(weight):
    """As many batches in each epoch, and after any number of them no sample is ahead of another by more than one."""
    found = order(30, 6, weights=[weight, 1])
    sizes, total = set(), Counter(dict.fromkeys(range(30), 0))
    for k in range(12):
        copies = epoch_of(found, k)
        sizes.add(tuple(sorted(map(len, found.epoch(k)))))
        total.update(copy.sample for copy in copies)
        for bucket in range(3):
            counts = [n for sample, n in total.items() if sample < 30 and sample % 3 == bucket]
            assert max(counts) - min(counts) <= 1
            assert len(counts) == 10 and weight * (k + 1) * 10 - 1e-6 <= sum(counts) <= (weight * 10 + 1) * (k + 1)
    assert len(sizes) == 1


def test_products_that_are_rounded_up_make_no_copy_more():
    copies = [Copy(i) for i in range(100)]
    assert 0.07 * 100 > 7  # in floating point
    assert len(dealt(copies, 0.07, 0, [0])) == 7 and len(dealt(copies, 1e-6, 5, [0])) == 1


def test_weighted_order_is_a_function_of_seed_and_epoch():
    """Whatever was asked for before, as after a resume; and another one for another seed and epoch."""
    options = {"weights": [1.7, 0.4], "mirror": True}
    first, again = order(9, 11, **options), order(9, 11, **options)
    steps = range(3 * first.batches_per_epoch)
    rows = [first.rows(step) for step in steps]
    assert [again.rows(step) for step in reversed(steps)] == rows[::-1]
    assert sorted(epoch_of(first, 0)) != sorted(epoch_of(first, 1))
    assert epoch_of(first, 0) != epoch_of(order(9, 11, seed=4, **options), 0)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_weighted_batches(world):
    found = order(9, 11, weights=[1.7, 0.4])
    for step in range(found.batches_per_epoch):
        _, rows = found.rows(step)
        shares = [[rows[k] for k in own_slice(rows, rank, world)] for rank in range(world)]
        assert [copy for share in shares for copy in share] == rows


def test_regularization_is_never_held_out():
    folders = [FolderConfig("a", regularization=True), FolderConfig("b")]
    found = Order(dataset(8, 6), DataConfig(folders=folders, held_out=5), 0)
    assert len(found.held_out) == 5 and min(found.held_out) >= 8
    with pytest.raises(ValueError, match="held_out=6: expected fewer than the 6 samples"):
        Order(dataset(8, 6), DataConfig(folders=folders, held_out=6), 0)


def test_shares_of_folders_are_told():
    found = order(5, 12, weights=[3, 1])
    assert found.describe_folders() == [
        "folder f0: 5 samples, weight 3: 15 of 27 an epoch (55.6%)",
        "folder f1: 12 samples, weight 1: 12 of 27 an epoch (44.4%)",
    ]
    assert order(5).describe_folders() == []
