"""Batches: which samples step N trains on, as a pure function of (seed, N), and their tensors, read ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tim_model.tokenizer import MAX_TOKENS

from .buckets import describe_batches, epoch_batches, held_out, own_slice
from .dataset import Dataset
from .encode import Latents, TextFeatures
from .sections import Config
from .share import ALONE, Share


@dataclass(frozen=True)
class Batch:
    """One process's part of a batch of `total` samples; `positions` (n,) says which part."""

    x: Tensor  # clean states (n,C,H,W)
    context: Tensor  # labels (n,), or text features (n,L,D) with L that of the whole batch
    null_context: Tensor  # what stands for no condition, like context
    positions: Tensor
    images: Tensor | None  # pictures (n,3,H,W) in [-1, 1] for an image encoder, where one is used
    total: int
    count: int  # of its samples; 0 for a process that got none and works on the first without weight

    def __len__(self) -> int:
        return len(self.x)

    def tensors(self) -> tuple[Tensor | None, ...]:
        return self.x, self.context, self.null_context, self.positions, self.images

    def to(self, device: torch.device) -> Batch:
        moved = (None if tensor is None else tensor.to(device, non_blocking=True) for tensor in self.tensors())
        return Batch(*moved, self.total, self.count)

    def split(self, passes: int) -> list[Batch]:
        """As many parts, or fewer where there are fewer samples."""
        parts = min(passes, len(self))
        chunks = ([None] * parts if tensor is None else tensor.tensor_split(parts) for tensor in self.tensors())
        return [Batch(*part, self.total, len(part[0]) if self.count else 0) for part in zip(*chunks, strict=True)]


class Data:
    """The samples of a run, their order and their tensors.

    Args:
        text: features of captions; None for class data.
        num_classes: of the network; that label means "no class".
    """

    def __init__(
        self, config: Config, dataset: Dataset, latents: Latents, text: TextFeatures | None, num_classes: int | None
    ):
        self.config = config.data
        self.seed = config.run.seed
        self.dataset = dataset
        self.latents = latents
        self.text = text
        self.num_classes = num_classes
        self.with_images = bool(config.objective.repa)
        if self.with_images and dataset.latent:
            raise ValueError("objective.repa: needs pictures, but data.path holds ready-made latents")
        count = len(dataset.samples)
        if config.data.held_out >= count:
            raise ValueError(f"data.held_out={config.data.held_out}: expected fewer than the {count} samples")
        self.held_out = held_out([sample.digest for sample in dataset.samples], config.data.held_out, self.seed)
        kept = set(self.held_out)
        flips = (False, True) if config.data.mirror else (False,)
        repeats = [sample.repeats for sample in dataset.samples]
        self.copies = [(i, flip) for i in range(count) if i not in kept for flip in flips for _ in range(repeats[i])]
        self._epoch: tuple[int, list[list[int]]] | None = None

    @cached_property
    def batches_per_epoch(self) -> int:
        return len(self.epoch(0))

    def epoch(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, indices into `copies`; the newest one is remembered."""
        if self._epoch is None or self._epoch[0] != epoch:
            buckets = [self.dataset.samples[i].bucket for i, _ in self.copies]
            lengths = None if self.text is None else [len(self.caption(i, epoch).split()) for i, _ in self.copies]
            self._epoch = epoch, epoch_batches(buckets, self.config.batch_size, self.seed, epoch, lengths)
        return self._epoch[1]

    def table(self) -> str:
        """What was found, and how full the batches are."""
        return self.dataset.table("\n".join([self.describe_batches(), *self.describe_captions()]))

    def describe_batches(self) -> str:
        """How full the batches of the first epoch are; those of other epochs are as many and as large."""
        return describe_batches(self.epoch(0), self.config.batch_size)

    @cached_property
    def caption_lengths(self) -> list[int]:
        """Tokens of each caption before it is cut; [] for class data."""
        if self.text is None:
            return []
        return self.text.full_lengths(sorted({c for sample in self.dataset.samples for c in sample.captions}))

    @property
    def longest_caption(self) -> int:
        """Tokens of the longest caption as the network sees it; 0 for class data."""
        return min(MAX_TOKENS, max(self.caption_lengths, default=0))

    def describe_captions(self) -> list[str]:
        """How long captions are, and how many are cut, in one line; none for class data."""
        if not self.caption_lengths:
            return []
        cut = sum(length > MAX_TOKENS for length in self.caption_lengths)
        told = f"{cut} of more than {MAX_TOKENS}, whose ends are cut off" if cut else f"none of more than {MAX_TOKENS}"
        n = len(self.caption_lengths)
        return [f"captions: {n} different, the longest of {max(self.caption_lengths)} tokens, {told}"]

    def encode(self, prompts: Sequence[str], device: torch.device, share: Share) -> None:
        """Fill the caches with all that the run needs; `prompts` are those of the sample sheet."""
        self.latents.encode([*self.copies, *((i, False) for i in self.held_out)], device, share)
        if self.text is not None:
            captions = (caption for sample in self.dataset.samples for caption in sample.captions)
            self.text.encode([*captions, *prompts], device, share)

    def rows(self, step: int) -> tuple[int, list[tuple[int, bool]]]:
        """The epoch of a step (from 0), and its samples: (index, mirrored)."""
        epoch, k = divmod(step, self.batches_per_epoch)
        return epoch, [self.copies[c] for c in self.epoch(epoch)[k]]

    def caption(self, i: int, epoch: int) -> str:
        """One of a sample's captions, another in each epoch."""
        captions = self.dataset.samples[i].captions
        if len(captions) == 1:
            return captions[0]
        return captions[int(np.random.default_rng([self.seed, epoch, i]).integers(len(captions)))]

    def context(self, indices: Sequence[int], epoch: int, positions: range) -> tuple[Tensor, Tensor]:
        """Conditions, and null conditions, of the samples at some positions of a batch."""
        if self.text is None:
            labels = torch.tensor([self.dataset.samples[indices[k]].label for k in positions])
            return labels, torch.full_like(labels, self.num_classes)
        captions = [self.caption(i, epoch) for i in indices]
        length = max(self.text.length(caption) for caption in captions)
        own = [captions[k] for k in positions]
        return self.text.read(own, length), self.text.read([""], length).expand(len(own), -1, -1)

    def batch(self, rows: Sequence[tuple[int, bool]], epoch: int, positions: range, pool=None) -> Batch:
        """The tensors of some positions of the batch `rows`."""
        x = self.stack(self.latents.read, rows, positions, pool)
        images = self.stack(self.dataset.read, rows, positions, pool) if self.with_images else None
        context = self.context([i for i, _ in rows], epoch, positions)
        return Batch(x, *context, torch.tensor(positions), images, len(rows), len(positions))

    @staticmethod
    def stack(read: Callable[[int, bool], Tensor], rows: Sequence[tuple[int, bool]], positions: range, pool) -> Tensor:
        return torch.stack(list((pool.map if pool else map)(lambda k: read(*rows[k]), positions)))

    def batches(self, start: int, stop: int, share: Share) -> Iterator[Batch]:
        """The own part of each step from `start` to `stop`, read ahead in threads."""

        def read(step: int, pool=None) -> Batch:
            epoch, rows = self.rows(step)
            own = own_slice(rows, share.rank, share.world)
            return replace(self.batch(rows, epoch, own or range(1), pool), count=len(own))

        if self.config.workers == 0:
            yield from map(read, range(start, stop))
            return
        with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(self.config.workers) as pool:
            waiting: deque = deque()
            for step in range(start, stop + 1):
                if step < stop:
                    waiting.append(ahead.submit(read, step, pool))
                if len(waiting) > 1 or step == stop and waiting:
                    yield waiting.popleft().result()

    def held_out_batches(self, size: int, share: Share = ALONE) -> Iterator[tuple[int, Batch]]:
        """The own part of the held-out samples, in batches of one bucket; and where each batch begins among them."""
        buckets: dict = {}
        for i in self.held_out:
            buckets.setdefault(self.dataset.samples[i].bucket, []).append((i, False))
        batches = [rows[k : k + size] for _, rows in sorted(buckets.items()) for k in range(0, len(rows), size)]
        place = 0
        for rows in batches:
            if own := own_slice(rows, share.rank, share.world):
                yield place, self.batch(rows, 0, own)
            place += len(rows)
