"""The velocity of a TiM network, which solvers follow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..sampler import Interval, default_null, guided_field, is_guided
from .steps import Velocity

EVERY_CALL = (float("-inf"), float("inf"))


def velocity_of(
    net: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    context: Tensor,
    null_context: Tensor | None = None,
    cfg: float = 1.0,
    guidance_interval: Interval = EVERY_CALL,
) -> Velocity:
    """F(x_t, t, r = t) of a network, guided as in `sample`; gradients reach x and t.

    Args:
        guidance_interval: times between which calls are guided, both ends strict; by default all are, as by the stock
            samplers of ComfyUI.

    Raises:
        ValueError: guidance without a null context for a text model.
    """
    if cfg > 1 and null_context is None:
        null_context = default_null(net, context, cfg)
    field = guided_field(net, context, null_context, cfg)

    def velocity(x: Tensor, t: float) -> Tensor:
        time = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        times = time.expand(len(x))
        return field(
            x, times, times, is_guided(float(time.detach() if isinstance(t, Tensor) else t), cfg, guidance_interval)
        )

    return velocity
