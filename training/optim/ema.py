"""Exponential moving average of the weights, used for sampling and export."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """The average of all trained parameters, kept in float32 in a separate network.

    Frozen parameters are neither averaged nor copied: both networks share them.

    Args:
        net: the trained network without wrappers; the average starts at its weights.
        decay: share of the average that an update keeps, 0.9999 as published.
        warmup: keep less in the first updates, min(decay, (1 + n) / (10 + n)) after n of them.

    Raises:
        ValueError: decay outside [0, 1].
    """

    def __init__(self, net: nn.Module, decay: float = 0.9999, warmup: bool = True):
        if not 0 <= decay <= 1:
            raise ValueError(f"decay={decay}: expected a number between 0 and 1, 0.9999 as published")
        frozen = {id(value): value for value in net.parameters() if not value.requires_grad}
        self.net = deepcopy(net, frozen).train(False)
        self.averages = [value for value in self.net.parameters() if value.requires_grad]
        for average in self.averages:
            average.data = average.data.float()
        self.net.requires_grad_(False)
        self.decay, self.warmup, self.updates = decay, warmup, 0

    def next_decay(self) -> float:
        """The share of the average that the next update keeps."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move the average towards the weights of `net`."""
        trained = (value for value in net.parameters() if value.requires_grad)
        values = [value.to(average) for average, value in zip(self.averages, trained, strict=True)]
        get_ema_multi_avg_fn(self.next_decay())(self.averages, values, self.updates)
        self.updates += 1

    def state_dict(self) -> dict[str, object]:
        """The weights, not copied, and how many updates made them."""
        return {"net": self.net.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Load a `state_dict`."""
        self.net.load_state_dict(state["net"])
        self.updates = state["updates"]
