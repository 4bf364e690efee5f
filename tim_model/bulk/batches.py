"""Which images are drawn together: a pure function of the list, so that every run draws the same batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence

from .layouts import Sample, Target


def sample_seed(seed: int, sample: Sample) -> int:
    """The seed of an image's own noise, 64 bits; `generate --seed` takes it for the one image."""
    digest = hashlib.blake2b(f"{seed} {sample.prompt} {sample.image}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def plan_batches(
    targets: Sequence[Target],
    group_of: Callable[[Target], Hashable],
    text_of: Callable[[Target], Hashable],
    size: int,
) -> list[list[Target]]:
    """Batches of up to `size` images of one group, or of a single larger file.

    The files of one text are kept together, so that its features are needed in as few batches as possible.

    Args:
        group_of: what the images of a batch share, such as their size.
        text_of: the text of a file.
    """
    groups: dict[Hashable, dict[Hashable, list[Target]]] = {}
    for target in targets:
        groups.setdefault(group_of(target), {}).setdefault(text_of(target), []).append(target)
    batches: list[list[Target]] = []
    for texts in groups.values():
        batch: list[Target] = []
        for files in texts.values():
            together = image_count(files)
            for k, target in enumerate(files):
                needed = together if k == 0 and together <= size else len(target.samples)
                if batch and image_count(batch) + needed > size:
                    batches.append(batch)
                    batch = []
                batch.append(target)
        batches.append(batch)
    return batches


def image_count(targets: Sequence[Target]) -> int:
    return sum(len(target.samples) for target in targets)
