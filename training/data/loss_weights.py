"""Weights of the loss: of positions by masks, of samples by their folder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.data_schema import DataConfig
from .dataset import Sample


def position_weights(masks: Tensor, size: tuple[int, int], black: float) -> Tensor:
    """Weights (n,1,h,w) of the positions of states of `size`, each the mean of the pixels that it holds.

    Args:
        masks: (n,1,H,W) in [0, 1], H and W multiples of h and w.
        black: the weight where they are 0.
    """
    return black + (1 - black) * F.adaptive_avg_pool2d(masks, size)


def sample_weights(samples: Sequence[Sample], config: DataConfig) -> Tensor | None:
    """Weights (n,) of the losses of samples, those of their folders; None if all folders have 1."""
    weights = [source.loss_weight for source in config.sources]
    if set(weights) == {1}:
        return None
    return torch.tensor([weights[sample.folder] for sample in samples])


def describe_masks(config: DataConfig, samples: Sequence[Sample]) -> list[str]:
    """How many samples have masks, in one line; none if masks are not read."""
    if not config.masks:
        return []
    n, black = sum(bool(sample.mask) for sample in samples), config.unmasked_weight
    return [f"masks: of {n} of {len(samples)} samples, the loss weighs {black:g} where they are black"]
