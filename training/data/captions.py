"""The captions that a sample is trained with, made of those in its files: lines, orders of tags, trigger word."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from ..config.data_schema import DataConfig
from .dataset import Sample


def trained_captions(captions: Sequence[str], trigger: str, config: DataConfig, seed: int) -> tuple[str, ...]:
    """All captions of a sample, one of which an epoch draws: each line or order of tags is as likely as the others.

    They are a function of (seed, caption), so that their features are encoded once.

    Args:
        captions: in its files.
        trigger: the trigger word of its folder, "" for none.
    """
    if config.caption_per_line:
        captions = [line.strip() for caption in captions for line in caption.split("\n") if line.strip()]
    if config.shuffle_tags:
        orders = range(config.shuffle_tags)
        captions = [shuffled(caption, config.keep_tags, seed, order) for caption in captions for order in orders]
    return tuple(with_trigger(caption, trigger) for caption in captions)


def shuffled(caption: str, keep: int, seed: int, order: int) -> str:
    """A caption whose tags, the texts between commas, stand in another order, but for the first `keep`."""
    tags = [tag.strip() for tag in caption.split(",") if tag.strip()]
    key = int.from_bytes(hashlib.sha256(caption.encode()).digest()[:8], "big")
    rest = np.random.default_rng([seed, key, order]).permutation(len(tags[keep:])) + keep
    return ", ".join([*tags[:keep], *(tags[k] for k in rest)])


def with_trigger(caption: str, trigger: str) -> str:
    """A caption that starts with the trigger word, unless it contains it as a word."""
    contained = not trigger or re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption)
    return caption if contained else f"{trigger}, {caption}"


def describe_settings(config: DataConfig, samples: Sequence[Sample]) -> list[str]:
    """What is made of the captions in the files, in a line each; none for captions that are trained as they are."""
    lines = []
    if any("\n" in caption for sample in samples for caption in sample.captions):
        each = "each line is a caption, an epoch draws one of them"
        whole = "captions of several lines are taken whole; data.caption_per_line=true draws one of the lines"
        lines.append(f"lines: {each if config.caption_per_line else whole}")
    if config.shuffle_tags:
        kept = f", the first {config.keep_tags} stay in front" if config.keep_tags else ""
        lines.append(f"tags: {config.shuffle_tags} orders of each caption, an epoch draws one of them{kept}")
    for source in config.sources:
        if source.trigger_word:
            where = f" in {source.path}" if config.folders else ""
            lines.append(f"trigger word: {source.trigger_word!r} starts every caption{where} that does not contain it")
    return lines
