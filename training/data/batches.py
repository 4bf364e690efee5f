"""The tensors of batches, read ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tim_model.text.tokenizer import MAX_TOKENS

from ..config.schema import Config
from ..processes.share import ALONE, Share
from .buckets import own_slice
from .captions import describe_settings, trained_captions
from .dataset import Dataset
from .encoded import Latents, TextFeatures
from .loss_weights import describe_masks, position_weights, sample_weights
from .order import Copy, Order

TENSORS = ("x", "context", "null_context", "positions", "images", "masks", "weights")  # of a batch


@dataclass(frozen=True)
class Batch:
    """One process's part of a batch of `total` samples; `positions` (n,) says which part."""

    x: Tensor  # clean states (n,C,H,W)
    context: Tensor  # labels (n,), or text features (n,L,D) with L that of the whole batch
    null_context: Tensor  # null conditioning, like context
    positions: Tensor  # on the CPU
    images: Tensor | None  # (n,3,H,W) in [-1, 1] for an image encoder, where one is used
    total: int
    count: int  # of its samples; 0 for a process without samples, which runs the first one at zero weight
    masks: Tensor | None = None  # (n,1,H,W) in [0, 1] of the loss, where they are used
    weights: Tensor | None = None  # (n,) of the samples' losses, where they differ from 1

    def __len__(self) -> int:
        return len(self.x)

    def tensors(self) -> dict[str, Tensor]:
        """Those that are there, by name."""
        values = {name: getattr(self, name) for name in TENSORS}
        return {name: value for name, value in values.items() if value is not None}

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`, its positions, which are looked at, still on the CPU."""
        moved = {
            name: value.to(device, non_blocking=True) for name, value in self.tensors().items() if name != "positions"
        }
        return replace(self, **moved)

    def split(self, passes: int) -> list[Batch]:
        """As many parts, or fewer where there are fewer samples."""
        parts = min(passes, len(self))
        chunks = {name: value.tensor_split(parts) for name, value in self.tensors().items()}
        chosen = [{name: chunk[k] for name, chunk in chunks.items()} for k in range(parts)]
        return [replace(self, **part, count=len(part["x"]) if self.count else 0) for part in chosen]


class Batches(Order):
    """The batches of a run with their tensors, and the held-out ones.

    Args:
        text: features of captions; None for class data.
        num_classes: of the network; that label means "no class".

    Raises:
        ValueError: latents where images are needed, or as many samples to hold out as there are, or more.
    """

    def __init__(
        self, config: Config, dataset: Dataset, latents: Latents, text: TextFeatures | None, num_classes: int | None
    ):
        self.with_images = bool(config.objective.repa)
        if self.with_images and dataset.latent:
            raise ValueError("objective.repa: needs images, but data.path holds ready-made latents")
        super().__init__(dataset, config.data, config.run.seed)
        self.latents = latents
        self.text = text
        self.num_classes = num_classes
        triggers = [source.trigger_word for source in config.data.sources]
        rewrite = lambda s: trained_captions(s.captions, triggers[s.folder], config.data, config.run.seed)
        self.captions = [rewrite(sample) for sample in dataset.samples]

    def lengths(self, copies: Sequence[Copy], epoch: int) -> list[int] | None:
        return None if self.text is None else [len(self.caption(copy, epoch).split()) for copy in copies]

    def table(self) -> str:
        """What was found, and how full the batches are."""
        return self.dataset.table("\n".join([self.describe_batches(), *self.describe_settings()]))

    def describe_settings(self) -> list[str]:
        """What is made of folders, captions and masks, in a line each."""
        return [*self.describe_folders(), *self.describe_captions(), *describe_masks(self.config, self.dataset.samples)]

    @cached_property
    def caption_lengths(self) -> list[int]:
        """Tokens of each caption before it is cut; [] for class data."""
        if self.text is None:
            return []
        return self.text.full_lengths(sorted({caption for captions in self.captions for caption in captions}))

    @property
    def longest_caption(self) -> int:
        """Tokens of the longest caption as the network sees it; 0 for class data."""
        return min(MAX_TOKENS, max(self.caption_lengths, default=0))

    def describe_captions(self) -> list[str]:
        """How long captions are, and how many are cut, in one line; none for class data."""
        if not self.caption_lengths:
            return []
        cut = sum(length > MAX_TOKENS for length in self.caption_lengths)
        cuts = f"{cut} of more than {MAX_TOKENS}, whose ends are cut off" if cut else f"none of more than {MAX_TOKENS}"
        n = len(self.caption_lengths)
        lengths = f"captions: {n} different, the longest of {max(self.caption_lengths)} tokens, {cuts}"
        return [lengths, *describe_settings(self.config, self.dataset.samples)]

    def encode(self, prompts: Sequence[str], device: torch.device, share: Share) -> None:
        """Fill the caches with all that the run needs; `prompts` are those of the sample sheet."""
        copies = [copy[:2] for copy in self.copies]
        self.latents.encode([*copies, *((i, False) for i in self.held_out)], device, share)
        if self.text is not None:
            captions = (caption for captions in self.captions for caption in captions)
            self.text.encode([*captions, *prompts], device, share)

    def caption(self, copy: Copy, epoch: int) -> str:
        """One of a sample's captions, another for each of its copies and in each epoch."""
        captions = self.captions[copy.sample]
        if len(captions) == 1:
            return captions[0]
        key = [self.seed, epoch, copy.sample, *[copy.repeat] * bool(copy.repeat)]
        return captions[int(np.random.default_rng(key).integers(len(captions)))]

    def context(self, rows: Sequence[Copy], epoch: int, positions: range) -> tuple[Tensor, Tensor]:
        """Conditioning and null conditioning of some positions of the batch `rows`."""
        if self.text is None:
            labels = torch.tensor([self.dataset.samples[rows[k].sample].label for k in positions])
            return labels, torch.full_like(labels, self.num_classes)
        captions = [self.caption(copy, epoch) for copy in rows]
        length = max(self.text.length(caption) for caption in captions)
        own = [captions[k] for k in positions]
        return self.text.read(own, length), self.text.read([""], length).expand(len(own), -1, -1)

    def batch(self, rows: Sequence[Copy], epoch: int, positions: range, pool=None) -> Batch:
        """The tensors of some positions of the batch `rows`."""
        x = self.stack(self.latents.read, rows, positions, pool)
        images = self.stack(self.dataset.read, rows, positions, pool) if self.with_images else None
        context = self.context(rows, epoch, positions)
        masks = self.stack(self.dataset.read_mask, rows, positions, pool) if self.config.masks else None
        masks = None if masks is None else position_weights(masks, x.shape[-2:], self.config.unmasked_weight)
        weights = sample_weights([self.dataset.samples[rows[k].sample] for k in positions], self.config)
        return Batch(x, *context, torch.tensor(positions), images, len(rows), len(positions), masks, weights)

    @staticmethod
    def stack(read: Callable[[int, bool], Tensor], rows: Sequence[Copy], positions: range, pool) -> Tensor:
        return torch.stack(list((pool.map if pool else map)(lambda k: read(*rows[k][:2]), positions)))

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
        place = 0
        for rows in self.held_out_rows(size):
            if own := own_slice(rows, share.rank, share.world):
                yield place, self.batch(rows, 0, own)
            place += len(rows)
