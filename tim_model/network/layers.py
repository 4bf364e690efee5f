"""The parts of the network. Every layer with weights comes from the injected `operations` (torch.nn or a host's)."""

from __future__ import annotations

import math
from types import ModuleType

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention import Attention
from .rope import apply_rope

TIME_FEATURES = 256
NORM_EPS = 1e-6  # the LayerNorms without weights; those with weights use PyTorch's default 1e-5


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN: normalize x (B,N,D) over its features, then scale and shift by (B,1,D)."""
    return torch.addcmul(shift, layer_norm(x), 1 + scale)


def layer_norm(x: Tensor) -> Tensor:
    """LayerNorm over the features, without weights."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


def sinusoid(t: Tensor) -> Tensor:
    """[cos | sin] features of times t (B,) -> (B, 256), float32; t enters as it is, not multiplied by 1000."""
    half = TIME_FEATURES // 2
    frequencies = torch.exp(-math.log(10000) / half * torch.arange(half, device=t.device, dtype=torch.float32))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedder(nn.Module):
    """Times (B,) -> embeddings (B, 1, D): sinusoid, Linear, SiLU, Linear."""

    def __init__(self, hidden_size: int, operations: ModuleType, **factory):
        super().__init__()
        self.mlp = nn.Sequential(
            operations.Linear(TIME_FEATURES, hidden_size, **factory),
            nn.SiLU(),
            operations.Linear(hidden_size, hidden_size, **factory),
        )

    def forward(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        return self.mlp(sinusoid(t).to(dtype))[:, None]


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
        return rearrange(self.proj(x), "b d h w -> b (h w) d")


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
        q, k, v = rearrange(qkv, "b n (three heads d) -> three b heads n d", three=3, heads=self.num_heads)
        return self.proj(attention(apply_rope(self.q_norm(q), rope), apply_rope(self.k_norm(k), rope), v))


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

    def forward(self, x: Tensor, context: Tensor, rope: Tensor, attention: Attention) -> Tensor:
        q = rearrange(self.q(x), "b n (heads d) -> b heads n d", heads=self.num_heads)
        k, v = rearrange(self.kv(context), "b l (two heads d) -> two b heads l d", two=2, heads=self.num_heads)
        return self.proj(attention(apply_rope(self.q_norm(q), rope), self.k_norm(k), v))


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
        branches = 3 if cross else 2
        self.adaLN_modulation = SwiGLU(hidden_size, adaln_hidden, 3 * branches * hidden_size, operations, **factory)

    def forward(
        self, x: Tensor, c: Tensor, delta: Tensor, context: Tensor | None, rope: Tensor, attention: Attention
    ) -> Tensor:
        """x (B,N,D); c, delta (B,1,D); context (B,L,D), normalized, or None for class models."""
        shift, scale, gate, *modulation = self.adaLN_modulation(c).chunk(9 if self.cross_attn else 6, dim=-1)
        x = torch.addcmul(x, gate, self.attn(modulate(x, shift, scale), delta, rope, attention))
        if self.cross_attn:
            shift, scale, gate, *modulation = modulation
            x = torch.addcmul(x, gate, self.cross_attn(modulate(x, shift, scale), context, rope, attention))
        shift, scale, gate = modulation
        return torch.addcmul(x, gate, self.mlp(modulate(x, shift, scale)))


class FinalLayer(nn.Module):
    """Tokens (B,N,D) -> patches (B, N, p*p*channels)."""

    def __init__(self, hidden_size: int, out_size: int, operations: ModuleType, **factory):
        super().__init__()
        self.linear = operations.Linear(hidden_size, out_size, **factory)
        self.adaLN_modulation = SwiGLU(hidden_size, hidden_size // 2, 2 * hidden_size, operations, **factory)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=-1)
        return self.linear(modulate(x, shift, scale))
