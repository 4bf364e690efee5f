"""Buckets, and the order of an epoch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from training.buckets import SLACK, bucket_size, epoch_batches, held_out, own_slice


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((100, 64), (96, 64)), ((64, 64), (64, 64)), ((256, 128), (160, 64)), ((999, 999), (128, 128)),
        ((33, 40), (32, 32)),
    ],
)  # fmt: skip
def test_native_sizes_within_the_area(size, expected):
    assert bucket_size(*size, unit=32, resolution=128, max_aspect=4) == expected
    width, height = bucket_size(*size, unit=32, resolution=128, max_aspect=4)
    assert width % 32 == height % 32 == 0
    assert width * height <= 128**2
    assert width <= size[0] and height <= size[1]


def test_too_small_too_long():
    with pytest.raises(ValueError, match="^is too small: 31x400, expected at least 32"):
        bucket_size(31, 400, 32, 128, 100)
    with pytest.raises(ValueError, match="^is too long: 300x100, expected an aspect of at most 2"):
        bucket_size(300, 100, 32, 128, 2)
    with pytest.raises(ValueError, match="^is too small"):
        bucket_size(100, 200, 32, 128, 2, square=True)


BUCKETS = [(32, 32)] * 11 + [(64, 32)] * 5


def test_every_sample_once_and_one_bucket_a_batch():
    batches = epoch_batches(BUCKETS, 4, seed=3, epoch=2)
    assert sorted(i for batch in batches for i in batch) == list(range(16))
    assert all(len({BUCKETS[i] for i in batch}) == 1 for batch in batches)
    assert Counter(map(len, batches)) == {4: 3, 3: 1, 1: 1}


def test_order_is_a_function_of_seed_and_epoch():
    assert epoch_batches(BUCKETS, 4, 3, 2) == epoch_batches(BUCKETS, 4, 3, 2)
    others = [epoch_batches(BUCKETS, 4, 3, 1), epoch_batches(BUCKETS, 4, 4, 2)]
    assert all(other != epoch_batches(BUCKETS, 4, 3, 2) for other in others)


def test_half_of_the_batches_hold_captions_of_similar_lengths():
    random = np.random.default_rng(0)
    buckets, lengths = [(64, 64)] * 1024 + [(64, 32)] * 1021, random.integers(2, 13, 2045).tolist()
    batches = epoch_batches(buckets, 8, 1, 0, lengths)
    assert sorted(i for batch in batches for i in batch) == list(range(2045))
    assert all(len({buckets[i] for i in batch}) == 1 for batch in batches)
    assert Counter(map(len, batches)) == Counter(map(len, epoch_batches(buckets, 8, 1, 0)))
    own = [[lengths[i] for i in batch] for batch in batches]
    similar = [batch for batch in own if max(batch) - min(batch) <= SLACK]
    mixed = [batch for batch in own if max(batch) - min(batch) >= 6]
    assert len(similar) >= len(batches) * 0.45 and len(mixed) >= len(batches) * 0.4


def test_few_captions_are_sorted_in_some_epochs():
    lengths = np.random.default_rng(0).integers(2, 13, 256).tolist()
    epochs = [epoch_batches([(64, 64)] * 256, 8, 1, epoch, lengths) for epoch in range(8)]
    widths = [np.mean([np.ptp([lengths[i] for i in batch]) for batch in batches]) for batches in epochs]
    assert min(widths) <= SLACK and max(widths) >= 6 and all(w <= SLACK or w >= 6 for w in widths)


def test_captions_of_every_length_come_without_padding():
    lengths = np.random.default_rng(0).choice([2, 9, 10, 11], 8192, p=[0.02, 0.3, 0.3, 0.38]).tolist()
    batches = epoch_batches([(64, 64)] * 8192, 64, 1, 0, lengths)
    assert {max(lengths[i] for i in batch) for batch in batches} == {2, 9, 10, 11}


def test_the_place_in_a_batch_does_not_follow_the_length():
    batches = epoch_batches([(64, 64)] * 512, 8, 5, 0, lengths=range(512))
    rising = sum(batch[0] < batch[-1] for batch in batches)
    assert len(batches) == 64 and 16 < rising < 48


@pytest.mark.parametrize("count", [1, 3, 8])
def test_processes_share_a_batch(count):
    slices = [own_slice(range(count), rank, 3) for rank in range(3)]
    assert [i for own in slices for i in own] == list(range(count))
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


DIGESTS = [f"{i:064x}" for i in range(100)]


def test_held_out_samples_stay():
    assert held_out(DIGESTS, 5, 0) == held_out(DIGESTS, 5, 0)
    assert set(held_out(DIGESTS, 5, 0)) <= set(held_out(DIGESTS, 9, 0))
    assert held_out(DIGESTS, 5, 0) != held_out(DIGESTS, 5, 1)
    assert held_out(DIGESTS, 0, 0) == []


def test_a_new_sample_moves_at_most_one_held_out_sample():
    """Wherever it comes in the order of names: the others are told by their content."""
    before = {DIGESTS[i] for i in held_out(DIGESTS, 30, 0)}
    entered = 0
    for k in range(100):
        digests = [*DIGESTS[:k], f"new {k}", *DIGESTS[k:]]
        after = {digests[i] for i in held_out(digests, 30, 0)}
        assert after - before <= {f"new {k}"} and len(after) == 30
        entered += after != before
    assert 0 < entered < 100


def test_a_removed_sample_moves_at_most_one_held_out_sample():
    before = {DIGESTS[i] for i in held_out(DIGESTS, 30, 0)}
    for digest in DIGESTS:
        digests = [other for other in DIGESTS if other != digest]
        after = {digests[i] for i in held_out(digests, 30, 0)}
        assert before - after <= {digest} and len(after) == 30


def test_equal_samples_are_held_out_together():
    pairs = [digest for digest in DIGESTS for _ in range(2)]
    for seed in range(10):
        held = held_out(pairs, 20, seed)
        assert len(held) == 20 and all((i ^ 1) in held for i in held)
    assert len(held_out(pairs, 21, 0)) == 21  # one pair has to part
    assert len(held_out(["equal"] * 9, 3, 0)) == 3
