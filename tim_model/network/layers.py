"""The parts of the network. Every layer with weights comes from the injected `operations` (torch.nn or a host's)."""

from __future__ import annotations

import math
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention
from .rope import apply_rope

TIME_FEATURES = 256
NORM_EPS = 1e-6  # the LayerNorms without weights; those with weights use PyTorch's default 1e-5


KeysValues = tuple[Tensor, Tensor]  # (B, L, heads, head_dim), of text tokens in one block


def modulate(x: Tensor, shift: Tensor, gain: Tensor) -> Tensor:
    """adaLN: normalize x (B,N,D) over its features, times `gain` plus `shift`, each (B,1,D) or (1,1,D)."""
    if len(gain) == 1 and gain.dtype == x.dtype:  # one row for all samples: the kernel's own weight and bias
        return F.layer_norm(x, x.shape[-1:], gain.flatten(), shift.flatten(), NORM_EPS)
    return torch.addcmul(shift, layer_norm(x), gain)


def modulations(rows: Tensor, branches: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(shift, gain, gate), each (B,1,D), of every branch, from the (shift, scale, gate) of all branches (B,1,3*D*n)."""
    shift, scale, gate = rows.unflatten(-1, (branches, 3, -1)).unbind(-2)
    return list(zip(shift.unbind(-2), (1 + scale).unbind(-2), gate.unbind(-2), strict=True))


def layer_norm(x: Tensor) -> Tensor:
    """LayerNorm over the features, without weights."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


def sinusoid(t: Tensor) -> Tensor:
    """[cos | sin] features of times t (...) -> (..., 256), float32; t enters as it is, not multiplied by 1000."""
    half = TIME_FEATURES // 2
    frequencies = torch.exp(-math.log(10000) / half * torch.arange(half, device=t.device, dtype=torch.float32))
    angles = t.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedder(nn.Module):
    """The `sinusoid` of times (B, 1, 256) -> embeddings (B, 1, D): Linear, SiLU, Linear."""

    def __init__(self, hidden_size: int, operations: ModuleType, **factory):
        super().__init__()
        self.mlp = nn.Sequential(
            operations.Linear(TIME_FEATURES, hidden_size, **factory),
            nn.SiLU(),
            operations.Linear(hidden_size, hidden_size, **factory),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.mlp(features)


class SwiGLU(nn.Module):
    """fc2(silu(fc1_g(x)) * fc1_x(x)): the MLP, the modulations and the text projection of the network."""

    def __init__(self, in_size: int, hidden_size: int, out_size: int, operations: ModuleType, **factory):
        super().__init__()
        self.fc1_g = operations.Linear(in_size, hidden_size, **factory)
        self.fc1_x = operations.Linear(in_size, hidden_size, **factory)
        self.fc2 = operations.Linear(hidden_size, out_size, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.silu(self.fc1_g(x)) * self.fc1_x(x))


class PatchEmbedder(nn.Module):
    """x (B,C,H,W) -> row-major tokens (B, (H/p)*(W/p), D)."""

    def __init__(self, in_channels: int, patch_size: int, hidden_size: int, operations: ModuleType, **factory):
        super().__init__()
        self.proj = operations.Conv2d(in_channels, hidden_size, patch_size, stride=patch_size, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.contiguous(memory_format=torch.channels_last)).flatten(2).mT.contiguous()


class TextEmbedder(nn.Module):
    """Text features (B,L,context_dim) -> context tokens (B,L,D)."""

    def __init__(self, context_dim: int, hidden_size: int, operations: ModuleType, **factory):
        super().__init__()
        self.norm = operations.LayerNorm(context_dim, **factory)
        self.mlp = SwiGLU(context_dim, 4 * hidden_size, hidden_size, operations, **factory)

    def forward(self, context: Tensor) -> Tensor:
        return self.mlp(self.norm(context))


class LabelEmbedder(nn.Module):
    """Labels (B,) in 0 .. num_classes, the last for "no class" -> embeddings (B,1,D)."""

    def __init__(self, num_classes: int, hidden_size: int, operations: ModuleType, **factory):
        super().__init__()
        self.embedding_table = operations.Embedding(num_classes + 1, hidden_size, **factory)

    def forward(self, labels: Tensor) -> Tensor:
        return self.embedding_table(labels)[:, None]


class SelfAttention(nn.Module):
    """Interval-aware self-attention: `delta`, the embedding of t - r, enters q, k and v of every token."""

    def __init__(self, hidden_size: int, num_heads: int, operations: ModuleType, **factory):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = operations.Linear(hidden_size, 3 * hidden_size, **factory)
        self.qkv_d = operations.Linear(hidden_size, 3 * hidden_size, bias=False, **factory)
        self.q_norm = operations.LayerNorm(hidden_size // num_heads, **factory)
        self.k_norm = operations.LayerNorm(hidden_size // num_heads, **factory)
        self.proj = operations.Linear(hidden_size, hidden_size, **factory)

    def forward(self, x: Tensor, delta: Tensor, rope: Tensor, attention: Attention) -> Tensor:
        qkv = self.qkv(x) + self.qkv_d(delta)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)  # each (B, N, heads, head_dim)
        q, k = apply_rope(self.q_norm(q), rope), apply_rope(self.k_norm(k), rope)
        return self.proj(attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)))


class CrossAttention(nn.Module):
    """Attention of the image tokens to all context tokens, unmasked; only q is rotated."""

    def __init__(self, hidden_size: int, num_heads: int, operations: ModuleType, **factory):
        super().__init__()
        self.num_heads = num_heads
        self.q = operations.Linear(hidden_size, hidden_size, **factory)
        self.kv = operations.Linear(hidden_size, 2 * hidden_size, **factory)
        self.q_norm = operations.LayerNorm(hidden_size // num_heads, **factory)
        self.k_norm = operations.LayerNorm(hidden_size // num_heads, **factory)
        self.proj = operations.Linear(hidden_size, hidden_size, **factory)

    def keys_values(self, context: Tensor) -> KeysValues:
        """Keys and values of the context tokens (B,L,D), which no image, time or size changes."""
        k, v = self.kv(context).unflatten(-1, (2, self.num_heads, -1)).unbind(2)
        return self.k_norm(k), v

    def forward(self, x: Tensor, context: Tensor | KeysValues, rope: Tensor, attention: Attention) -> Tensor:
        """`context`: tokens, or their `keys_values`."""
        q = apply_rope(self.q_norm(self.q(x).unflatten(-1, (self.num_heads, -1))), rope)
        k, v = self.keys_values(context) if isinstance(context, Tensor) else context
        return self.proj(attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)))


class Block(nn.Module):
    """One pre-norm transformer block with adaLN-zero gates; cross-attention only in text models."""

    def __init__(
        self, hidden_size: int, num_heads: int, mlp_hidden: int, adaln_hidden: int, cross: bool,
        operations: ModuleType, **factory,
    ):  # fmt: skip
        super().__init__()
        self.attn = SelfAttention(hidden_size, num_heads, operations, **factory)
        self.cross_attn = CrossAttention(hidden_size, num_heads, operations, **factory) if cross else None
        self.mlp = SwiGLU(hidden_size, mlp_hidden, hidden_size, operations, **factory)
        self.branches = 3 if cross else 2
        self.adaLN_modulation = SwiGLU(
            hidden_size, adaln_hidden, 3 * self.branches * hidden_size, operations, **factory
        )

    def forward(
        self, x: Tensor, c: Tensor, delta: Tensor, context: Tensor | KeysValues | None, rope: Tensor,
        attention: Attention,
    ) -> Tensor:  # fmt: skip
        """x (B,N,D); c, delta (B,1,D) or (1,1,D); context: normalized tokens (B,L,D) or this block's keys and values
        of them, or None for class models."""
        (shift, gain, gate), *others = modulations(self.adaLN_modulation(c), self.branches)
        x = torch.addcmul(x, gate, self.attn(modulate(x, shift, gain), delta, rope, attention))
        if self.cross_attn:
            (shift, gain, gate), *others = others
            x = torch.addcmul(x, gate, self.cross_attn(modulate(x, shift, gain), context, rope, attention))
        ((shift, gain, gate),) = others
        return torch.addcmul(x, gate, self.mlp(modulate(x, shift, gain)))


class FinalLayer(nn.Module):
    """Tokens (B,N,D) -> patches (B, N, p*p*channels)."""

    def __init__(self, hidden_size: int, out_size: int, operations: ModuleType, **factory):
        super().__init__()
        self.linear = operations.Linear(hidden_size, out_size, **factory)
        self.adaLN_modulation = SwiGLU(hidden_size, hidden_size // 2, 2 * hidden_size, operations, **factory)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=-1)
        return self.linear(modulate(x, shift, 1 + scale))
