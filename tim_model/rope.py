"""Two-dimensional rotary position embedding, as the released weights were trained with it."""

from __future__ import annotations

import torch
from torch import Tensor


def token_positions(h: int, w: int, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """Positions of the h*w tokens on the two rotary axes, each (h*w,).

    Tokens are row-major, n = row*w + col, but token n sits at (n mod h, n div h), NOT at (row, col): the released
    code builds its grid with a meshgrid in 'xy' order. On square grids that is the transposed picture, on others the
    positions do not follow the rows at all. Every released weight was trained through it, so it must stay.
    """
    n = torch.arange(h * w, device=device)
    return n % h, n // h


def rope_table(h: int, w: int, head_dim: int, device: torch.device | str | None = None) -> Tensor:
    """Cosines and sines of every token's rotation angles, (2, h*w, head_dim) in float32.

    The first half of `head_dim` turns with the first axis, the second half with the other; each frequency
    10000^(-2i/dim), dim = head_dim/2, serves one neighboring pair of features.
    """
    dim = head_dim // 2
    frequencies = 10000.0 ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
    angles = torch.cat([p[:, None] * frequencies for p in token_positions(h, w, device)], dim=-1)
    angles = angles.repeat_interleave(2, dim=-1)
    return torch.stack([angles.cos(), angles.sin()])


def apply_rope(x: Tensor, table: Tensor) -> Tensor:
    """Rotate neighboring feature pairs of x (B, heads, N, head_dim) by a `rope_table`; computed in float32."""
    cos, sin = table
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    rotated = torch.stack([-b, a], dim=-1).flatten(-2)
    return (x * cos + rotated * sin).to(x.dtype)
