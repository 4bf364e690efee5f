"""The pictures that an autoencoder is trained on, in batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .buckets import epoch_batches, held_out
from .config import ConfigError
from .dataset import Dataset
from .sections import DataConfig


class Pictures:
    """The batches of a run, each of one bucket, as a pure function of (seed, step), and the held-out pictures."""

    def __init__(self, dataset: Dataset, config: DataConfig, seed: int):
        self.dataset, self.batch_size, self.seed = dataset, config.batch_size, seed
        count = len(dataset.samples)
        if config.held_out >= count:
            raise ConfigError(f"data.held_out={config.held_out}: expected fewer than the {count} pictures")
        self.held_out = held_out([sample.digest for sample in dataset.samples], config.held_out, seed)
        flips = (False, True) if config.mirror else (False,)
        self.copies = [(i, flip) for i in sorted({*range(count)} - {*self.held_out}) for flip in flips]
        self.steps_per_epoch = len(self.epoch(0))

    def epoch(self, epoch: int) -> list[list[int]]:
        buckets = [self.dataset.samples[i].bucket for i, _ in self.copies]
        return epoch_batches(buckets, self.batch_size, self.seed, epoch)

    def batches(self, start: int, stop: int) -> Iterator[Tensor]:
        """Images (B,3,H,W) in [-1, 1] of the steps from `start` to `stop`."""
        for step in range(start, stop):
            epoch, k = divmod(step, self.steps_per_epoch)
            if step == start or k == 0:
                batches = self.epoch(epoch)
            yield torch.stack([self.dataset.read(*self.copies[c]) for c in batches[k]])

    def held_out_batches(self) -> Iterator[Tensor]:
        """All held-out pictures, largest first."""
        buckets: dict = {}
        for i in self.held_out:
            buckets.setdefault(self.dataset.samples[i].bucket, []).append(i)
        for _, members in sorted(buckets.items(), reverse=True):
            for k in range(0, len(members), self.batch_size):
                yield torch.stack([self.dataset.read(i, False) for i in members[k : k + self.batch_size]])
