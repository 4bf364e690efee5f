"""The text of a run, which the network reads once and not at every step."""

from __future__ import annotations

from typing import NamedTuple

import comfy.conds
import comfy.model_management
import torch
from comfy.model_base import BaseModel
from torch import Tensor

from ...tim_model.network.run import EncodedContexts
from ...tim_model.network.tim import EncodedText
from .network import HostTiM


class RunCond(comfy.conds.CONDRegular):
    """A condition whose batches are the same tensors at every step, by which the network knows them again.

    A batch that a node has written into is made again.
    """

    def __init__(self, cond: Tensor):
        super().__init__(cond)
        self.repeated: dict[int, RunCond] = {}
        self.joined: list[tuple[list[RunCond], Tensor]] = []

    def process_cond(self, batch_size: int, **options) -> RunCond:
        if batch_size not in self.repeated:
            self.repeated[batch_size] = super().process_cond(batch_size, **options)
        return self.repeated[batch_size]

    def concat(self, others: list[RunCond]) -> Tensor:
        for known, joined in self.joined:
            if len(known) == len(others) and all(a is b for a, b in zip(known, others)) and joined._version == 0:
                return joined
        with torch.inference_mode(False), torch.no_grad():  # inference tensors do not count what writes into them
            joined = torch.cat([self.cond, *(other.cond for other in others)])
        self.joined = [(known, old) for known, old in self.joined if old._version == 0] + [(list(others), joined)]
        return joined


class ReadText(NamedTuple):
    """A text in the network's dtype and on its device, and what the network has made of it."""

    context: Tensor
    encoded: EncodedText


class RunTexts:
    """Texts that the network has read since the run began."""

    def __init__(self):
        self.contexts: EncodedContexts | None = None

    def read(self, model: BaseModel, features: Tensor, device: torch.device, dtype: torch.dtype) -> ReadText | None:
        """What to hand to the network; None where it has to read the text itself, since its weights change in the run.

        Args:
            features: (B,L,D), the same tensor at every step.
            device, dtype: in which the network computes.
        """
        network = getattr(model.diffusion_model, "_orig_mod", model.diffusion_model)  # behind torch.compile
        has_hooks = model.current_patcher is None or bool(model.current_patcher.hook_patches)
        if has_hooks or torch.is_grad_enabled() or not isinstance(network, HostTiM):
            return None
        if self.contexts is None or self.contexts.net is not network:

            def encode(features: Tensor) -> ReadText:
                context = comfy.model_management.cast_to_device(features, device, dtype)
                return ReadText(context, network.encode_text(context))

            self.contexts = EncodedContexts(network, encode)
        return self.contexts(features)
