"""Which samples each step trains on, as a pure function of (seed, step), and which are held out."""

from __future__ import annotations

from functools import cached_property

from ..config.schema import DataConfig
from .buckets import describe_batches, epoch_batches, held_out
from .dataset import Dataset

Copy = tuple[int, bool]  # the index of a sample, and whether it is mirrored


class Order:
    """The batches of every epoch, each of one bucket, without the held-out samples.

    Raises:
        ValueError: no samples are left besides the held-out ones.
    """

    counted = "samples"  # in messages

    def __init__(self, dataset: Dataset, config: DataConfig, seed: int):
        self.dataset, self.config, self.seed = dataset, config, seed
        count = len(dataset.samples)
        if config.held_out >= count:
            raise ValueError(f"data.held_out={config.held_out}: expected fewer than the {count} {self.counted}")
        self.held_out = held_out([sample.digest for sample in dataset.samples], config.held_out, seed)
        flips = (False, True) if config.mirror else (False,)
        repeats = [sample.repeats for sample in dataset.samples]
        trained = sorted({*range(count)} - {*self.held_out})
        self.copies = [(i, flip) for i in trained for flip in flips for _ in range(repeats[i])]
        self._epoch: tuple[int, list[list[int]]] | None = None

    def lengths(self, epoch: int) -> list[int] | None:
        """Lengths in words of the captions of `copies` in an epoch; None for class data."""
        return None

    def epoch(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch as indices into `copies`; the latest epoch is cached."""
        if self._epoch is None or self._epoch[0] != epoch:
            buckets = [self.dataset.samples[i].bucket for i, _ in self.copies]
            batches = epoch_batches(buckets, self.config.batch_size, self.seed, epoch, self.lengths(epoch))
            self._epoch = epoch, batches
        return self._epoch[1]

    @cached_property
    def batches_per_epoch(self) -> int:
        return len(self.epoch(0))

    def rows(self, step: int) -> tuple[int, list[Copy]]:
        """The epoch of a step (from 0), and its samples."""
        epoch, k = divmod(step, self.batches_per_epoch)
        return epoch, [self.copies[c] for c in self.epoch(epoch)[k]]

    def held_out_rows(self, size: int) -> list[list[Copy]]:
        """All held-out samples in batches of one bucket, the smallest bucket first."""
        buckets: dict = {}
        for i in self.held_out:
            buckets.setdefault(self.dataset.samples[i].bucket, []).append((i, False))
        return [rows[k : k + size] for _, rows in sorted(buckets.items()) for k in range(0, len(rows), size)]

    def describe_batches(self) -> str:
        """A line on how full the batches of the first epoch are; all epochs have as many batches of the same sizes."""
        return describe_batches(self.epoch(0), self.config.batch_size)
