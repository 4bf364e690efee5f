"""Buckets, and the order of an epoch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from training.config.data_schema import DataConfig
from training.data.buckets import (
    SLACK,
    bucket_size,
    bucket_step,
    describe_batches,
    epoch_batches,
    held_out,
    kept,
    own_slice,
    share_buckets,
)
from training.data.open_dataset import open_dataset

from ..tiny import train, write_picture, write_recipe


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


def test_sizes_in_steps_that_keep_most():
    def size(width: int, height: int, step: int) -> tuple[int, int]:
        return bucket_size(width, height, unit=32, resolution=1024, max_aspect=2, step=step)

    assert size(4032, 3024, 64) == (1152, 896)  # 1182x887 at the area limit, of which floors would keep 1152x832
    assert size(6000, 4000, 64) == (1216, 832)
    assert size(900, 900, 64) == (896, 896) and size(768, 768, 64) == (768, 768)
    assert size(4032, 3024, 256) == (1024, 768)
    assert size(100, 80, 64) == (96, 64)  # 64x64 would keep 80% of it
    for width, height in random_sizes(300):
        for step in (32, 64, 128):
            w, h = size(width, height, step)
            assert w <= width and h <= height and w * h <= 1024**2 and w % 32 == h % 32 == 0
            assert kept(width, height, w, h) >= 7 / 8 or (w, h) == size(width, height, 1)


def random_sizes(count: int) -> list[tuple[int, int]]:
    """Between 300 and 1600 pixels a side, at most twice as long as wide."""
    random = np.random.default_rng(0)
    sizes = random.integers(300, 1601, (2 * count, 2)).tolist()
    return [(w, h) for w, h in sizes if max(w, h) <= 2 * min(w, h)][:count]


def photo_sizes() -> list[tuple[int, int]]:
    """300 pictures as in a folder of photos: of cameras and phones, cropped ones, from the web, and any."""
    random = np.random.default_rng(1)
    cameras = [(4032, 3024), (6000, 4000), (3840, 2160), (1920, 1080), (3264, 2448), (2048, 1536), (3000, 3000)]
    whole = [cameras[k] for k in random.integers(len(cameras), size=140)]
    cropped = [(int(w * a), int(h * b)) for (w, h), a, b in zip(whole, *random.uniform(0.5, 1, (2, 140)), strict=True)]
    sizes = [*whole, *cropped[:90], *[(1280, 720), (800, 600), (640, 640), (1200, 800)] * 10, *random_sizes(30)]
    turned = random.random(len(sizes)) < 0.4
    return [
        (h, w) if turn else (w, h) for (w, h), turn in zip(sizes, turned, strict=True) if max(w, h) <= 2 * min(w, h)
    ]


@pytest.mark.parametrize(
    ("sizes", "most", "full", "crop"),
    [(photo_sizes(), 32, 0.7, 0.05), (random_sizes(300), 48, 0.5, 0.07), ([(900, 900)] * 300, 1, 1, 0.01)],
    ids=["photos", "random", "one size"],
)
def test_pictures_of_many_sizes_fill_batches(sizes, most, full, crop):
    """Own sizes make 62 and 152 buckets, and fill 50% and 16% of the batches."""
    step = bucket_step(0, 1024, 32)
    own = [bucket_size(*size, 32, 1024, 2, step=step) for size in sizes]
    buckets = share_buckets(sizes, own, 1024)
    batches = epoch_batches(buckets, 4, 0, 0)
    crops = [1 - kept(*size, *bucket) for size, bucket in zip(sizes, buckets, strict=True)]
    pixels = [w * h / min(W * H, 1024**2) for (W, H), (w, h) in zip(sizes, buckets, strict=True)]
    assert len(set(buckets)) <= most
    assert sum(len(batch) == 4 for batch in batches) >= full * len(batches)
    assert np.mean(crops) <= crop and max(crops) <= 0.17 and min(pixels) >= 0.5
    assert all(w <= W and h <= H for (W, H), (w, h) in zip(sizes, buckets, strict=True))


def test_pictures_leave_rare_buckets_alone():
    sizes = [(1024, 1024)] * 20 + [(1024, 960)] * 3 + [(640, 1280)] * 2 + [(1024, 960)] * 13
    assert share_buckets(sizes, sizes, 1024) == sizes  # 16 pictures are enough
    assert share_buckets(sizes[:25], sizes[:25], 1024) == sizes[:25]  # 1024x1024 would enlarge those of 1024x960
    sizes = [(1100, 1024)] * 3 + [(1024, 1024)] * 20
    assert share_buckets(sizes, [(1088, 960)] * 3 + [(1024, 1024)] * 20, 1024) == [(1024, 1024)] * 23
    assert share_buckets([], [], 1024) == []


def test_steps_of_buckets():
    assert [bucket_step(0, *case) for case in ((1024, 32), (512, 32), (256, 16), (96, 16), (1000, 16))] == [
        64,
        32,
        16,
        16,
        48,
    ]
    assert bucket_step(1, 1024, 32) == 1 and bucket_step(100, 1024, 32) == 96 and bucket_step(32, 1024, 32) == 32


def test_how_full_batches_are():
    assert describe_batches([[1, 2], [3, 4], [5]], 2) == (
        "batches: 3 an epoch, of 1.7 samples on average, 2 (67%) full with data.batch_size=2"
    )
    assert describe_batches([[1, 2], [3]], 4).endswith(
        "a smaller data.batch_size fills more of them, and so does data.square=true"
    )


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


def test_crops_and_full_batches_are_told(tmp_path, capsys):
    """Before a run, in it and in its data.txt: pictures of 33x33 and 36x33 pixels, of which 32x32 are trained."""
    for i in range(5):
        write_picture(tmp_path / "data" / "fox" / f"{i}.png", (33, 33) if i % 2 else (36, 33), seed=i)
    recipe = write_recipe(tmp_path, tmp_path / "data")
    options = ["data.resolution=64", "data.batch_size=2", "model.patch_size=8", "data.bucket_step=16", "run.steps=1"]
    lines = [
        "note: buckets crop 5.0% of an image on average, 8.3% at most",
        "  32x32: 5",
        "batches: 3 an epoch, of 1.7 samples on average, 2 (67%) full with data.batch_size=2",
    ]
    assert train(recipe, *options, "--dry-run") == 0
    printed = capsys.readouterr().out.splitlines()
    assert train(recipe, *options) == 0
    written = (tmp_path / "run" / "data.txt").read_text().splitlines()
    assert [line for line in printed if line in lines] == [line for line in written if line in lines] == lines
    assert lines[2] in capsys.readouterr().out


def test_each_picture_at_its_own_size(tmp_path):
    """As the released code trains: both sides floored to whole tokens, whatever other pictures there are."""
    for i, size in enumerate([(36, 33)] * 3 + [(40, 33)]):
        write_picture(tmp_path / "fox" / f"{i}.png", size, seed=i)
    config = DataConfig(path=str(tmp_path), resolution=64, workers=0)
    own = open_dataset(replace(config, bucket_step=1), 1, 4).samples
    assert [sample.bucket for sample in own] == [(36, 32)] * 3 + [(40, 32)]
    assert [sample.bucket for sample in open_dataset(config, 1, 4).samples] == [(36, 32)] * 4


@pytest.mark.parametrize("step", [-1, 65])
def test_steps_that_no_bucket_has(tmp_path, step):
    write_picture(tmp_path / "fox" / "a.png")
    config = DataConfig(path=str(tmp_path), resolution=64, workers=0, bucket_step=step)
    with pytest.raises(ValueError, match=rf"data\.bucket_step={step}: expected 0 or more pixels, at most"):
        open_dataset(config, 1, 4)
