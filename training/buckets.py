"""Native-resolution buckets, and the order of an epoch as a pure function of (seed, epoch)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

Size = tuple[int, int]  # (width, height) in pixels
POOL = 64  # batches whose samples are sorted by length together: enough for batches of the rare lengths
SLACK = 2  # words by which lengths in a sorted batch may differ


def bucket_size(width: int, height: int, unit: int, resolution: int, max_aspect: float, square: bool = False) -> Size:
    """The size at which a picture is trained: its own, scaled down to the area limit and floored to whole tokens.

    Pictures are never enlarged.

    Args:
        unit: pixels per token and side, the VAE's ratio times the patch size.
        resolution: the area limit is resolution**2 pixels.
        max_aspect: longest allowed side over the shorter one.
        square: every picture becomes resolution x resolution, and smaller ones are refused.

    Raises:
        ValueError: too small or too long, in words that follow the file's name.
    """
    least = resolution if square else unit
    if min(width, height) < least:
        raise ValueError(f"is too small: {width}x{height}, expected at least {least} pixels a side")
    if square:
        return resolution, resolution
    if max(width, height) > max_aspect * min(width, height):
        raise ValueError(f"is too long: {width}x{height}, expected an aspect of at most {max_aspect:g}")
    scale = min(1.0, resolution / math.sqrt(width * height))
    return max(unit, int(width * scale) // unit * unit), max(unit, int(height * scale) // unit * unit)


def epoch_batches(
    buckets: Sequence[Size], batch_size: int, seed: int, epoch: int, lengths: Sequence[int] | None = None
) -> list[list[int]]:
    """All samples once, shuffled, in batches of one bucket each; the last batch of a bucket may be smaller.

    Args:
        buckets: the bucket of each sample.
        lengths: of the samples' captions, in words. Where given, half of the batches are of similar lengths, so that
            the network learns captions of every length without padding: that is how a prompt comes alone. The other
            half are of any, so that it learns much padding, too: that is how prompts of several lengths come together.

    Returns:
        indices into `buckets`, as many batches in every epoch.
    """
    random = np.random.default_rng([seed, epoch])
    members: dict[Size, list[int]] = {}
    for i in random.permutation(len(buckets)).tolist():
        members.setdefault(buckets[i], []).append(i)
    if lengths is not None:
        members = {bucket: by_length(m, lengths, POOL * batch_size, random) for bucket, m in members.items()}
    batches = [m[k : k + batch_size] for _, m in sorted(members.items()) for k in range(0, len(m), batch_size)]
    # a sample's place in its batch means its role, which must not follow from its length
    batches = [random.permutation(batch).tolist() for batch in batches]
    return [batches[k] for k in random.permutation(len(batches)).tolist()]


def by_length(samples: Sequence[int], lengths: Sequence[int], pool: int, random: np.random.Generator) -> list[int]:
    """The samples, every other run of `pool` of them sorted by length, give or take `SLACK`; chance picks the first."""
    keys = {i: lengths[i] + SLACK * random.random() for i in samples}
    runs = (samples[k : k + pool] for k in range(0, len(samples), pool))
    first = random.integers(2)
    return [i for k, run in enumerate(runs, first) for i in (run if k % 2 else sorted(run, key=keys.__getitem__))]


def own_slice(batch: Sequence[int], rank: int, world: int) -> range:
    """The positions in a global batch that one of `world` processes works on: contiguous, as even as possible."""
    n = len(batch)
    return range(n * rank // world, n * (rank + 1) // world)


def held_out(digests: Sequence[str], wanted: int, seed: int) -> list[int]:
    """The indices of `wanted` samples that are never trained on, rising: those of the smallest hash of (seed, digest).

    A sample that is added or removed takes or leaves one place, and the others stay on their side. Equal samples are on
    one side; where that cannot be, as few of them as possible are parted.

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
