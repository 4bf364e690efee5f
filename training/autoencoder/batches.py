"""Batches of training images for an autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ..config.data_schema import DataConfig
from ..data.dataset import Dataset
from ..data.order import Copy, Order


class Images(Order):
    """The batches of a run, and the held-out images. An epoch holds each image once; repeats are ignored."""

    noun = "images"

    def __init__(self, dataset: Dataset, config: DataConfig, seed: int):
        super().__init__(replace(dataset, samples=[replace(s, repeats=1) for s in dataset.samples]), config, seed)

    def read(self, rows: list[Copy]) -> Tensor:
        """Images (B,3,H,W) in [-1, 1]."""
        return torch.stack([self.dataset.read(copy.sample, copy.mirrored) for copy in rows])

    def batches(self, start: int, stop: int) -> Iterator[Tensor]:
        """The images of the steps from `start` to `stop`."""
        return (self.read(self.rows(step)[1]) for step in range(start, stop))

    def held_out_batches(self) -> Iterator[Tensor]:
        """All held-out images, largest first."""
        samples = self.dataset.samples
        batches = self.held_out_rows(self.config.batch_size)
        largest_first = sorted(batches, key=lambda rows: samples[rows[0][0]].bucket, reverse=True)
        return map(self.read, largest_first)
