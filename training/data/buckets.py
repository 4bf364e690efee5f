"""Native-resolution buckets, and the order of an epoch as a pure function of (seed, epoch)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import product

import numpy as np

Size = tuple[int, int]  # (width, height) in pixels
Number = float | np.ndarray
RARE = 16  # images of smaller buckets move to another bucket
KEPT = 7 / 8  # share of an image that must remain after cropping to another bucket
PIXELS = 1 / 2  # share of its trainable pixels that must remain, likewise
POOL = 64  # batches whose samples are sorted by length together: enough for batches of the rare lengths
SLACK = 2  # words by which lengths in a sorted batch may differ


def bucket_size(
    width: int, height: int, unit: int, resolution: int, max_aspect: float, square: bool = False, step: int = 1
) -> Size:
    """The size at which an image is trained: its own, scaled down to the area limit, its sides rounded to whole steps.

    Images are never enlarged. Of the sizes in steps, the one that keeps most of the image is chosen; if none
    keeps `KEPT` of it, its own size in whole tokens.

    Args:
        unit: pixels per token and side, the VAE's ratio times the patch size.
        resolution: the area limit is resolution**2 pixels.
        max_aspect: largest allowed ratio of the longer side to the shorter one.
        square: every image becomes resolution x resolution, and smaller ones are refused.
        step: pixels, a multiple of `unit`; less than `unit` floors both sides to whole tokens, as published.

    Raises:
        ValueError: too small or too long; the message follows the file name.
    """
    least = resolution if square else unit
    if min(width, height) < least:
        raise ValueError(f"is too small: {width}x{height}, expected at least {least} pixels a side")
    if square:
        return resolution, resolution
    if max(width, height) > max_aspect * min(width, height):
        raise ValueError(f"is too long: {width}x{height}, expected an aspect of at most {max_aspect:g}")
    scale = min(1.0, resolution / math.sqrt(width * height))
    native = max(unit, int(width * scale) // unit * unit), max(unit, int(height * scale) // unit * unit)
    if step < unit:
        return native
    sides = ([int(side * scale) // step * step + k * step for k in (-1, 0, 1)] for side in (width, height))
    sizes = [(w, h) for w, h in product(*sides) if 0 < w <= width and 0 < h <= height and w * h <= resolution**2]
    sizes = [size for size in sizes if kept(width, height, *size) >= KEPT]
    return max(sizes, key=lambda size: kept(width, height, *size) * math.prod(size), default=native)


def kept(width: Number, height: Number, bucket_width: Number, bucket_height: Number) -> Number:
    """The share of an image that is left when it is scaled to cover a bucket and cropped; numbers or arrays."""
    narrow, wide = bucket_width * height, bucket_height * width
    return np.minimum(narrow, wide) / np.maximum(narrow, wide)


def bucket_step(step: int, resolution: int, unit: int) -> int:
    """`data.bucket_step` in whole tokens: 0 is a sixteenth of the resolution; less than a token stays as it is."""
    return step if 0 < step < unit else max(unit, (step or resolution // 16) // unit * unit)


def share_buckets(sizes: Sequence[Size], buckets: Sequence[Size], resolution: int) -> list[Size]:
    """The bucket of each image, after images of rare buckets have moved to another suitable bucket, if there is one.

    A suitable bucket holds at least as many images, fits into the image, and keeps `KEPT` of the image and `PIXELS` of
    its trainable pixels. Without such moves, hundreds of images of many sizes form batches of one or two.

    Args:
        sizes: (width, height) of each image.
        buckets: of each, by `bucket_size`.
    """
    buckets = list(buckets)
    members: dict[Size, list[int]] = {}
    for i, bucket in enumerate(buckets):
        members.setdefault(bucket, []).append(i)
    for bucket in sorted(members, key=lambda bucket: (len(members[bucket]), bucket)):
        own = members[bucket]
        others = sorted(other for other in members if other != bucket and len(members[other]) >= len(own))
        if len(own) >= RARE or not others:
            continue
        del members[bucket]
        for i, other in zip(own, best_buckets([sizes[i] for i in own], others, resolution), strict=True):
            buckets[i] = other or bucket
            members.setdefault(buckets[i], []).append(i)
    return buckets


def best_buckets(sizes: Sequence[Size], buckets: Sequence[Size], resolution: int) -> list[Size | None]:
    """The best of some buckets for each image; None if none is suitable."""
    width, height = np.array(sizes, float).T[..., None]  # (images, 1) against (buckets,)
    w, h = np.array(buckets, float).T
    share, pixels = kept(width, height, w, h), w * h / np.minimum(width * height, resolution**2)
    suits = (w <= width) & (h <= height) & (share >= KEPT) & (pixels >= PIXELS)
    scores = np.where(suits, share * pixels, 0)
    return [buckets[k] if row[k] else None for row, k in zip(scores, scores.argmax(1).tolist(), strict=True)]


def epoch_batches(
    buckets: Sequence[Size], batch_size: int, seed: int, epoch: int, lengths: Sequence[int] | None = None
) -> list[list[int]]:
    """All samples once, shuffled, in batches of one bucket each; the last batch of a bucket may be smaller.

    Args:
        buckets: the bucket of each sample.
        lengths: of the samples' captions, in words. Where given, half of the batches are of similar lengths, so that
            the network learns captions of every length without padding: as with a single prompt at inference. The
            other half have mixed lengths, so that it also learns much padding, as with prompts of several lengths.

    Returns:
        indices into `buckets`; every epoch has the same number of batches.
    """
    random = np.random.default_rng([seed, epoch])
    members: dict[Size, list[int]] = {}
    for i in random.permutation(len(buckets)).tolist():
        members.setdefault(buckets[i], []).append(i)
    if lengths is not None:
        members = {bucket: by_length(m, lengths, POOL * batch_size, random) for bucket, m in members.items()}
    batches = [m[k : k + batch_size] for _, m in sorted(members.items()) for k in range(0, len(m), batch_size)]
    # the position in a batch decides how t and r are drawn, so it must not depend on the length
    batches = [random.permutation(batch).tolist() for batch in batches]
    return [batches[k] for k in random.permutation(len(batches)).tolist()]


def by_length(samples: Sequence[int], lengths: Sequence[int], pool: int, random: np.random.Generator) -> list[int]:
    """The samples, with every other group of `pool` sorted by length within `SLACK`; the first group is random."""
    keys = {i: lengths[i] + SLACK * random.random() for i in samples}
    runs = (samples[k : k + pool] for k in range(0, len(samples), pool))
    first = random.integers(2)
    return [i for k, run in enumerate(runs, first) for i in (run if k % 2 else sorted(run, key=keys.__getitem__))]


def own_slice(batch: Sequence[int], rank: int, world: int) -> range:
    """The positions in a global batch that one of `world` processes works on: contiguous, as even as possible."""
    n = len(batch)
    return range(n * rank // world, n * (rank + 1) // world)


def held_out(digests: Sequence[str], wanted: int, seed: int) -> list[int]:
    """The sorted indices of `wanted` held-out samples: those with the smallest hash of (seed, digest).

    Adding or removing a sample changes at most one other. Equal samples are held out together; if the number does not
    allow it, as few of them as possible are separated.

    Args:
        digests: of the samples' contents.
    """
    equal: dict[str, list[int]] = {}
    for i, digest in enumerate(digests):
        equal.setdefault(digest, []).append(i)
    ranked = sorted(equal, key=lambda digest: hashlib.sha256(f"{seed} {digest}".encode()).digest())
    chosen: list[int] = []
    for digest in ranked:
        if len(chosen) + len(equal[digest]) <= wanted:
            chosen += equal[digest]
    kept = set(chosen)
    rest = [i for digest in ranked for i in equal[digest] if i not in kept]
    return sorted(chosen + rest[: wanted - len(chosen)])


def describe_batches(batches: Sequence[Sequence[int]], batch_size: int) -> str:
    """A line on how full the batches of an epoch are."""
    full = sum(len(batch) == batch_size for batch in batches)
    mean, share = sum(map(len, batches)) / len(batches), full / len(batches)
    line = f"batches: {len(batches)} an epoch, of {mean:.1f} samples on average, {full} ({share:.0%}) full"
    advice = "; a smaller data.batch_size fills more of them, and so does data.square=true" if share < 0.5 else ""
    return f"{line} with data.batch_size={batch_size}{advice}"
