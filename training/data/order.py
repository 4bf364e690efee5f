"""Which samples each step trains on, as a pure function of (seed, step), and which are held out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..config.data_schema import DataConfig
from .buckets import Size, describe_batches, epoch_batches, held_out
from .dataset import Dataset


class Copy(NamedTuple):
    """A sample in an epoch."""

    sample: int  # its index
    mirrored: bool = False
    repeat: int = 0  # counts the equal copies in an epoch


class Order:
    """The batches of every epoch, each of one bucket, without the held-out samples.

    Raises:
        ValueError: no samples are left besides the held-out ones.
    """

    noun = "samples"  # in messages

    def __init__(self, dataset: Dataset, config: DataConfig, seed: int):
        self.dataset, self.config, self.seed = dataset, config, seed
        count, kept = len(dataset.samples), [source.regularization for source in config.sources]
        may = [i for i, sample in enumerate(dataset.samples) if not kept[sample.folder]]
        if config.held_out >= len(may):
            raise ValueError(f"data.held_out={config.held_out}: expected fewer than the {len(may)} {self.noun}")
        chosen = held_out([dataset.samples[i].digest for i in may], config.held_out, seed)
        self.held_out = [may[k] for k in chosen]
        flips = (False, True) if config.mirror else (False,)
        repeats = [sample.repeats for sample in dataset.samples]
        trained = sorted({*range(count)} - {*self.held_out})
        self.copies = [Copy(i, flip, k) for i in trained for flip in flips for k in range(repeats[i])]
        self._epoch: tuple[int, list[list[Copy]]] | None = None

    def lengths(self, copies: Sequence[Copy], epoch: int) -> list[int] | None:
        """Lengths in words of the captions of copies in an epoch; None for class data."""
        return None

    @cached_property
    def members(self) -> dict[tuple[int, Size], list[Copy]]:
        """The copies by folder and bucket."""
        members: dict = {}
        for copy in self.copies:
            sample = self.dataset.samples[copy.sample]
            members.setdefault((sample.folder, sample.bucket), []).append(copy)
        return members

    def weighted(self, epoch: int) -> list[Copy]:
        """The copies of an epoch: those of each folder as often as its weight says."""
        weights = [source.weight for source in self.config.sources]
        if set(weights) == {1}:
            return self.copies
        found = []
        for (folder, bucket), copies in self.members.items():
            found += dealt(copies, weights[folder], epoch, [self.seed, folder, *bucket])
        return counted(found)

    def epoch(self, epoch: int) -> list[list[Copy]]:
        """The batches of an epoch; the latest epoch is cached."""
        if self._epoch is None or self._epoch[0] != epoch:
            copies = self.weighted(epoch)
            buckets = [self.dataset.samples[copy.sample].bucket for copy in copies]
            lengths = self.lengths(copies, epoch)
            batches = epoch_batches(buckets, self.config.batch_size, self.seed, epoch, lengths)
            self._epoch = epoch, [[copies[c] for c in batch] for batch in batches]
        return self._epoch[1]

    @cached_property
    def batches_per_epoch(self) -> int:
        return len(self.epoch(0))

    def rows(self, step: int) -> tuple[int, list[Copy]]:
        """The epoch of a step (from 0), and its samples."""
        epoch, k = divmod(step, self.batches_per_epoch)
        return epoch, self.epoch(epoch)[k]

    def held_out_rows(self, size: int) -> list[list[Copy]]:
        """All held-out samples in batches of one bucket, the smallest bucket first."""
        buckets: dict = {}
        for i in self.held_out:
            buckets.setdefault(self.dataset.samples[i].bucket, []).append(Copy(i))
        return [rows[k : k + size] for _, rows in sorted(buckets.items()) for k in range(0, len(rows), size)]

    def describe_batches(self) -> str:
        """A line on how full the batches of the first epoch are; all epochs have as many batches of the same sizes."""
        return describe_batches(self.epoch(0), self.config.batch_size)

    def describe_folders(self) -> list[str]:
        """How much of an epoch is from each of several folders, in a line each."""
        if not self.config.folders:
            return []
        used = Counter(self.dataset.samples[copy.sample].folder for batch in self.epoch(0) for copy in batch)
        lines = []
        for k, source in enumerate(self.config.sources):
            samples = sum(sample.folder == k for sample in self.dataset.samples)
            kind = "for regularization, " if source.regularization else ""
            share = f"{used[k]} of {used.total()} an epoch ({used[k] / used.total():.1%})"
            line = f"folder {source.path}: {samples} samples, {kind}weight {source.weight:g}: {share}"
            lines.append(line + (f", loss weight {source.loss_weight:g}" if source.loss_weight != 1 else ""))
        return lines


def dealt(copies: Sequence[Copy], weight: float, epoch: int, key: Sequence[int]) -> list[Copy]:
    """`weight` times the copies, rounded up, as if dealt from shuffled decks of them that one epoch after another uses.

    Every epoch gets as many, and after any number of epochs the copies have come equally often, or once more.
    """
    n = len(copies)
    size = math.ceil(weight * n * (1 - 1e-9))  # not one more for a product that is rounded up
    first = epoch * size // n
    found = []
    for deck in range(first, -(-(epoch + 1) * size // n)):
        order = np.random.default_rng([*key, deck]).permutation(n).tolist()
        start, stop = max(0, epoch * size - deck * n), min(n, (epoch + 1) * size - deck * n)
        found += [copies[c] for c in order[start:stop]]
    return found


def counted(copies: Sequence[Copy]) -> list[Copy]:
    """The copies with their repeats counted from 0."""
    seen: Counter = Counter()
    found = []
    for copy in copies:
        found.append(copy._replace(repeat=seen[copy[:2]]))
        seen[copy[:2]] += 1
    return found
