"""Two-dimensional rotary position embedding, as the released weights were trained with it, and its scalings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def token_positions(h: int, w: int, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """Positions of the h*w tokens on the two rotary axes, each (h*w,).

    Tokens are row-major, n = row*w + col, but token n sits at (n mod h, n div h), NOT at (row, col): the released
    code builds its grid with a meshgrid in 'xy' order. On square grids that is the transposed image, on others the
    positions do not follow the rows at all. Every released weight was trained through it, so it must stay.
    """
    n = torch.arange(h * w, device=device)
    return n % h, n // h


def unscaled(frequencies: Tensor, factor: float, trained: int) -> Tensor:
    """As trained; positions beyond the trained ones extrapolate."""
    return frequencies


def linear(frequencies: Tensor, factor: float, trained: int) -> Tensor:
    """Position interpolation (arXiv 2306.15595): m / s in place of m, by slowing every frequency."""
    return frequencies / factor


def ntk(frequencies: Tensor, factor: float, trained: int) -> Tensor:
    """NTK-aware interpolation (arXiv 2309.00071, section 3.1): the base times s^(dim/(dim-2)), dim = 2n features.

    b^(-2i/dim) becomes that times s^(-i/(n-1)): the fastest frequency stays, the slowest is divided by s.
    """
    n = len(frequencies)
    return frequencies * factor ** (-torch.arange(n, device=frequencies.device) / max(n - 1, 1))


def yarn(frequencies: Tensor, factor: float, trained: int) -> Tensor:
    """NTK-by-parts, the frequencies of YaRN (arXiv 2309.00071, section 3.2): (1 - gamma) theta / s + gamma theta.

    gamma rises from 0 where theta turns once or less over the trained tokens (alpha = 1) to 1 at 32 turns (beta, as
    published), or at the turns of the fastest frequency: the side of an image is too short for 32.
    """
    turns = trained * frequencies / (2 * math.pi)
    beta = turns[0].clamp(max=32)
    gamma = ((turns - 1) / (beta - 1).clamp(min=1e-6)).clamp(0, 1)
    return torch.lerp(frequencies / factor, frequencies, gamma)


ROPE_SCALINGS: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "none": unscaled, "linear": linear, "ntk": ntk, "yarn": yarn,
}  # fmt: skip


@dataclass(frozen=True)
class RopeScaling:
    """How rotations adapt to grids beyond the trained one; up to that size nothing changes, to the last bit.

    Each axis has its own factor s = max(1, side / trained), as in FiT (arXiv 2402.12376).

    In cross-attention only q is rotated, so that scores depend on absolute positions: slower frequencies keep the
    image tokens where the text has seen them in training. YaRN's magnitude enters there once instead of twice.

    Args:
        kind: a name in `ROPE_SCALINGS`.
        trained: tokens per side that the weights were trained with (32 for 1024 pixels of the text model).

    Raises:
        ValueError: unknown kind, or trained < 1.
    """

    kind: str
    trained: int

    def __post_init__(self):
        if self.kind not in ROPE_SCALINGS:
            raise ValueError(f"RoPE scaling {self.kind!r}: expected one of {', '.join(ROPE_SCALINGS)}")
        if self.trained < 1:
            raise ValueError(f"trained={self.trained}: expected the tokens per side in training, from 1")

    def factor(self, side: int) -> float:
        """How many times longer than trained an axis of `side` tokens is, at least 1."""
        return max(1.0, side / self.trained)

    def frequencies(self, frequencies: Tensor, side: int) -> Tensor:
        """The trained frequencies (n,), fastest first, adapted to an axis of `side` tokens."""
        return ROPE_SCALINGS[self.kind](frequencies, self.factor(side), self.trained)

    def magnitude(self, h: int, w: int) -> float:
        """What q and k are multiplied by: sqrt(1/t) = 0.1 ln(s) + 1 of YaRN's temperature t (section 3.4), else 1.

        One temperature serves both axes, s being the geometric mean of their factors.
        """
        return 1 + 0.05 * math.log(self.factor(h) * self.factor(w)) if self.kind == "yarn" else 1.0


UNSCALED = RopeScaling("none", trained=1)


def rope_table(
    h: int, w: int, head_dim: int, device: torch.device | str | None = None, scaling: RopeScaling = UNSCALED,
    dtype: torch.dtype = torch.float32,
) -> Tensor:  # fmt: skip
    """What `apply_rope` multiplies the features of every token with, (2, h*w, 1, head_dim/2, 2) in `dtype`.

    A pair (a, b) of features with the angle p turns to a (cos p, sin p) + b (-sin p, cos p): the two rows of the table.

    The first half of `head_dim` turns with the first axis, the second half with the other; each frequency
    10000^(-2i/dim), dim = head_dim/2, serves one neighboring pair of features. Angles are float32 in every dtype.

    Args:
        scaling: for grids beyond the trained one; its magnitude is in the table, so that `apply_rope` scales q and k.
    """
    dim = head_dim // 2
    frequencies = 10000.0 ** (torch.arange(0, -dim, -2, device=device, dtype=torch.float32) / dim)
    axes = zip(token_positions(h, w, device), (h, w), strict=True)
    angles = torch.cat([p[:, None] * scaling.frequencies(frequencies, side) for p, side in axes], dim=-1)
    cos, sin = angles.cos(), angles.sin()
    rows = torch.stack([cos, sin, -sin, cos], dim=-1).unflatten(-1, (2, 2)).movedim(-2, 0)[:, :, None]
    if scaling.kind == "yarn":
        rows = rows * scaling.magnitude(h, w)
    return torch.empty(rows.shape, dtype=dtype, device=device).copy_(rows)  # contiguous and cast in one go


class RopeTables:
    """Tables of a network by size, which are kept from call to call; they do not depend on any weight.

    Args:
        most: tables that are kept, each of a few megabytes for the largest images.
    """

    def __init__(self, head_dim: int, most: int = 4):
        self.head_dim, self.most = head_dim, most
        self.kept: dict[tuple, Tensor] = {}

    def __call__(self, h: int, w: int, device: torch.device, scaling: RopeScaling, dtype: torch.dtype) -> Tensor:
        """`rope_table` of that size."""
        if torch.compiler.is_compiling():  # sizes may be symbols there
            return rope_table(h, w, self.head_dim, device, scaling, dtype)
        key = h, w, device, scaling, dtype
        if key not in self.kept:
            with torch.inference_mode(False), torch.no_grad():  # else of no use for a later training step
                table = rope_table(h, w, self.head_dim, device, scaling, dtype)
            if type(table) is not Tensor:  # of a mode of PyTorch, such as fake tensors, which will end
                return table
            while len(self.kept) >= self.most:
                del self.kept[next(iter(self.kept))]
            self.kept[key] = table
        return self.kept[key]


def apply_rope(x: Tensor, table: Tensor) -> Tensor:
    """Rotate neighboring feature pairs of x (B, N, heads, head_dim) by a `rope_table`, in the table's precision."""
    pairs = x.unflatten(-1, (-1, 2))
    if x.device.type == "cpu" and table.dtype == torch.float32 and not torch.compiler.is_compiling():
        # as complex numbers, a tenth of the time there; MPS and compilers have no fast ones
        rotated = torch.view_as_complex(pairs.float()) * torch.view_as_complex(table[0])
        return torch.view_as_real(rotated).flatten(-2).to(x.dtype)
    a, b = pairs.split(1, dim=-1)
    return torch.addcmul(a * table[0], b, table[1]).flatten(-2).to(x.dtype)
