"""Each part of the network against its formula."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tim_model.network import layers
from tim_model.network.attention import attention
from tim_model.network.rope import rope_table

D, HEADS = 16, 2


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def swiglu(part: layers.SwiGLU, x: torch.Tensor) -> torch.Tensor:
    return part.fc2(F.silu(part.fc1_g(x)) * part.fc1_x(x))


def test_layer_norm_has_no_weights():
    x = layers.layer_norm(3 + 5 * torch.randn(2, 7, D))
    torch.testing.assert_close(x.mean(-1), torch.zeros(2, 7))
    torch.testing.assert_close(x.var(-1, correction=0), torch.ones(2, 7))


def test_layer_norm_eps():
    """A row of variance v becomes one of variance v / (v + 1e-6)."""
    x = 1e-3 * torch.tensor([1.0, -1.0])
    torch.testing.assert_close(layers.layer_norm(x), 0.5**0.5 * torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize("rows", [2, 1])
def test_modulate(rows):
    """Each sample by its own row, or all by one."""
    x, shift, gain = torch.randn(2, 7, D), torch.randn(rows, 1, D), torch.randn(rows, 1, D)
    torch.testing.assert_close(layers.modulate(x, shift, gain), layers.layer_norm(x) * gain + shift)


def test_sinusoid():
    """[cos | sin] of t times 1 ... nearly 1/10000; t is not multiplied by 1000."""
    features = layers.sinusoid(torch.tensor([0.0, 0.5]))
    assert features.shape == (2, 256)
    assert features[0].tolist() == [1.0] * 128 + [0.0] * 128
    frequencies = [math.exp(-math.log(10000) * i / 128) for i in range(128)]
    expected = [math.cos(0.5 * f) for f in frequencies] + [math.sin(0.5 * f) for f in frequencies]
    torch.testing.assert_close(features[1], torch.tensor(expected))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_sinusoid_is_float32(dtype):
    assert layers.sinusoid(torch.ones(1, dtype=dtype)).dtype == torch.float32


def test_time_embedder():
    part = layers.TimeEmbedder(D, nn)
    t = torch.tensor([0.25, 1.0])
    features = layers.sinusoid(t)[:, None]
    torch.testing.assert_close(part(features), part.mlp[2](F.silu(part.mlp[0](features))))


def test_swiglu():
    part, x = layers.SwiGLU(6, 10, 4, nn), torch.randn(2, 3, 6)
    torch.testing.assert_close(part(x), swiglu(part, x))


def test_patches_are_row_major():
    """Token n is the patch in row n div w and column n mod w, all channels of it."""
    part, x = layers.PatchEmbedder(3, 2, D, nn), torch.randn(1, 3, 4, 6)
    tokens = part(x)
    assert tokens.shape == (1, 6, D)
    for n in range(6):
        row, col = n // 3, n % 3
        patch = x[0, :, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
        torch.testing.assert_close(tokens[0, n], part.proj.weight.flatten(1) @ patch.flatten() + part.proj.bias)


def test_text_embedder():
    part, context = layers.TextEmbedder(12, D, nn), 2 + torch.randn(2, 5, 12)
    nn.init.normal_(part.norm.weight)
    normed = F.layer_norm(context, (12,), part.norm.weight, part.norm.bias, eps=1e-5)
    torch.testing.assert_close(part(context), swiglu(part.mlp, normed))
    assert part.mlp.fc2.in_features == 4 * D


def test_label_embedder_has_a_row_for_no_class():
    part = layers.LabelEmbedder(10, D, nn)
    assert torch.equal(part(torch.tensor([3, 10])), part.embedding_table.weight[[3, 10]][:, None])


def heads(x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(-1, (HEADS, -1))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """`attention` of (B, tokens, heads, head_dim)."""
    return attention(*(part.transpose(1, 2) for part in (q, k, v)))


def test_interval_enters_self_attention():
    """One row of qkv_d(delta), without bias, joins the qkv of every token."""
    part = layers.SelfAttention(D, HEADS, nn)
    x, delta, rope = torch.randn(2, 6, D), torch.randn(2, 1, D), rope_table(2, 3, D // HEADS)
    q, k, v = map(heads, (part.qkv(x) + delta @ part.qkv_d.weight.T).chunk(3, dim=-1))
    q, k = layers.apply_rope(part.q_norm(q), rope), layers.apply_rope(part.k_norm(k), rope)
    torch.testing.assert_close(part(x, delta, rope, attention), part.proj(attend(q, k, v)))
    assert part.qkv_d.bias is None
    assert not torch.allclose(part(x, delta, rope, attention), part(x, 0 * delta, rope, attention))


def test_only_queries_of_cross_attention_are_rotated():
    part = layers.CrossAttention(D, HEADS, nn)
    x, context, rope = torch.randn(2, 6, D), torch.randn(2, 5, D), rope_table(2, 3, D // HEADS)
    k, v = map(heads, part.kv(context).chunk(2, dim=-1))
    q = layers.apply_rope(part.q_norm(heads(part.q(x))), rope)
    torch.testing.assert_close(part(x, context, rope, attention), part.proj(attend(q, part.k_norm(k), v)))
    given = part(x, part.keys_values(context), rope, attention)
    assert torch.equal(given, part(x, context, rope, attention))


def constant_modulation(part: nn.Module, chunks: int, **rows: float) -> None:
    """Make a modulation give 0 but for the numbered rows of its chunks, "_2=1.0" for the third."""
    nn.init.zeros_(part.adaLN_modulation.fc2.weight)
    bias = torch.zeros(chunks, D)
    for row, value in rows.items():
        bias[int(row[1:])] = value
    part.adaLN_modulation.fc2.bias = nn.Parameter(bias.flatten())


def block_and_inputs(cross: bool):
    block = layers.Block(D, HEADS, 24, 8, cross, nn)
    x, c, delta = torch.randn(2, 6, D), torch.randn(2, 1, D), torch.randn(2, 1, D)
    context = layers.layer_norm(torch.randn(2, 5, D)) if cross else None
    return block, (x, c, delta, context, rope_table(2, 3, D // HEADS), attention)


@pytest.mark.parametrize("cross", [True, False])
def test_closed_gates_make_a_block_the_identity(cross):
    block, inputs = block_and_inputs(cross)
    constant_modulation(block, 9 if cross else 6, _0=1.0, _1=1.0, _3=1.0, _4=1.0)
    assert torch.equal(block(*inputs), inputs[0])


@pytest.mark.parametrize(("cross", "branch"), [(True, 0), (True, 1), (True, 2), (False, 0), (False, 1)])
def test_order_of_modulation(cross, branch):
    """(shift, scale, gate) of self-attention, then of cross-attention where there is one, then of the MLP."""
    block, inputs = block_and_inputs(cross)
    x, _, delta, context, rope, _ = inputs
    rows = {f"_{3 * branch}": 0.3, f"_{3 * branch + 1}": 0.5, f"_{3 * branch + 2}": 2.0}
    constant_modulation(block, 9 if cross else 6, **rows)
    modulated = layers.layer_norm(x) * 1.5 + 0.3
    branches = [lambda: block.attn(modulated, delta, rope, attention)]
    branches += [lambda: block.cross_attn(modulated, context, rope, attention)] if cross else []
    branches += [lambda: block.mlp(modulated)]
    torch.testing.assert_close(block(*inputs), x + 2 * branches[branch]())


def test_modulation_has_no_activation_in_front():
    """Its input is c itself: SwiGLU(c), not SwiGLU(silu(c))."""
    block, inputs = block_and_inputs(cross=False)
    x, c, delta, _, rope, _ = inputs
    shift1, scale1, gate1, shift2, scale2, gate2 = swiglu(block.adaLN_modulation, c).chunk(6, dim=-1)
    x = x + gate1 * block.attn(layers.layer_norm(x) * (1 + scale1) + shift1, delta, rope, attention)
    x = x + gate2 * block.mlp(layers.layer_norm(x) * (1 + scale2) + shift2)
    torch.testing.assert_close(block(*inputs), x)


def test_final_layer():
    part, x, c = layers.FinalLayer(D, 12, nn), torch.randn(2, 6, D), torch.randn(2, 1, D)
    shift, scale = swiglu(part.adaLN_modulation, c).chunk(2, dim=-1)
    torch.testing.assert_close(part(x, c), part.linear(layers.layer_norm(x) * (1 + scale) + shift))
    assert part.adaLN_modulation.fc1_g.out_features == D // 2
