"""The attention functions of the network, which callers can replace."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# q (B, heads, N, head_dim), k and v (B, heads, M, head_dim) -> (B, N, heads * head_dim); softmax scale 1/sqrt(head_dim)
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
SHORT = 512  # tokens; longer ones gain little by elementary operations, and need memory for all pairs


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Unmasked softmax attention by PyTorch's fused kernels; shapes as in `Attention`."""
    slow = q.requires_grad and q.device.type == "cpu" and q.dtype == torch.bfloat16
    if slow and max(q.shape[-2], k.shape[-2]) <= SHORT:
        return plain_attention(q, k, v)  # the fused kernel's gradient takes 2 to 7 times as long there
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`attention` in elementary operations, which forward-mode differentiation (torch.func.jvp) can follow."""
    weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)
