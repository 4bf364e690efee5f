"""The attention seam is softmax attention without a mask."""

from __future__ import annotations

import torch

from tim_model.network.attention import attention, plain_attention


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def test_equals_the_textbook_formula():
    q, k, v = draw(2, 3, 5, 8), draw(2, 3, 7, 8), draw(2, 3, 7, 8) + 1
    weights = (q @ k.mT / 8**0.5).softmax(dim=-1)
    expected = torch.cat([(weights @ v)[:, head] for head in range(3)], dim=-1)  # heads side by side
    torch.testing.assert_close(attention(q, k, v), expected)


def test_every_key_is_attended_to():
    """Zero queries weigh all values alike, the last as much as the first."""
    k, v = draw(1, 2, 6, 4), draw(1, 2, 6, 4)
    out = attention(torch.zeros(1, 2, 3, 4, dtype=torch.float64), k, v)
    torch.testing.assert_close(out, v.mean(dim=2).flatten(1)[:, None].expand(1, 3, 8))


def test_order_of_keys_is_irrelevant():
    q, k, v = draw(1, 2, 5, 4), draw(1, 2, 6, 4), draw(1, 2, 6, 4) + 1
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(attention(q, k, v), attention(q, k[:, :, order], v[:, :, order]))


def test_elementary_operations_give_the_same():
    q, k, v = draw(2, 3, 5, 8), draw(2, 3, 7, 8), draw(2, 3, 7, 8) + 1
    torch.testing.assert_close(plain_attention(q, k, v), attention(q, k, v))


def test_elementary_operations_have_a_forward_derivative():
    """For v moving at a constant rate, the output moves at the attention of that rate."""
    q, k, v, rate = draw(1, 2, 5, 4), draw(1, 2, 6, 4), draw(1, 2, 6, 4), draw(1, 2, 6, 4) - 2
    _, moved = torch.func.jvp(lambda v: plain_attention(q, k, v), (v,), (rate,))
    torch.testing.assert_close(moved, attention(q, k, rate))


def test_training_in_bfloat16_has_the_gradient_of_float32():
    """Short sequences on a CPU are trained in elementary operations, with the precision of bfloat16."""
    whole = [draw(2, 3, n, 8).float().requires_grad_() for n in (5, 7, 7)]
    half = [value.detach().bfloat16().requires_grad_() for value in whole]
    weight = draw(2, 5, 24).float()
    for inputs in (whole, half):
        (attention(*inputs).float() * weight).sum().backward()
    for exact, rounded in zip(whole, half, strict=True):
        torch.testing.assert_close(rounded.grad.float(), exact.grad, rtol=0.05, atol=0.05)
