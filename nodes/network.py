"""`tim_model.TiM` as the host calls its networks."""

from __future__ import annotations

from functools import partial
from types import ModuleType

import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

from ..tim_model import TiM, TiMParams


def host_attention(q: Tensor, k: Tensor, v: Tensor, transformer_options: dict) -> Tensor:
    """The attention that the host has chosen, in the shapes of `tim_model.attention.Attention`."""
    return optimized_attention(q, k, v, heads=q.shape[1], skip_reshape=True, transformer_options=transformer_options)


class HostTiM(TiM):
    """The same network under the same parameter names; only arguments and attention are the host's."""

    def __init__(
        self, params: TiMParams, dtype: torch.dtype | None = None, device: torch.device | None = None,
        operations: ModuleType | None = None, **ignored,
    ):  # fmt: skip
        super().__init__(params, operations, dtype=dtype, device=device)
        self.dtype = dtype

    def forward(
        self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, control: dict | None = None,
        transformer_options: dict | None = None, labels: Tensor | None = None, **ignored,
    ) -> Tensor:  # fmt: skip
        """F of x (B,C,H,W); `timesteps` is not used, since hosts rescale it: t and r come in float32 beside it."""
        t, r = transformer_options["tim_t"], transformer_options["tim_r"]
        attention = partial(host_attention, transformer_options=transformer_options)
        return self.predict(x, t, r, context if labels is None else labels, attention)[0]
