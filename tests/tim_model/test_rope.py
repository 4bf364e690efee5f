"""Rotary embedding: rotations, relative positions, and the grid order that the weights were trained with."""

from __future__ import annotations

import pytest
import torch

from tim_model.rope import apply_rope, rope_table, token_positions

GRIDS = [(4, 4), (3, 5), (5, 3), (1, 6), (6, 1)]


@pytest.mark.parametrize(("h", "w"), GRIDS)
def test_token_n_sits_at_n_mod_h_and_n_div_h(h, w):
    first, second = token_positions(h, w)
    assert first.tolist() == [n % h for n in range(h * w)]
    assert second.tolist() == [n // h for n in range(h * w)]


def test_square_grids_are_transposed_and_others_scrambled():
    """Not (row, col), which is what anyone would write."""
    n = torch.arange(9)
    first, second = token_positions(3, 3)
    assert torch.equal(first, n % 3) and torch.equal(second, n // 3)  # (col, row)
    first, second = token_positions(2, 3)  # rows of three tokens: 0 1 2 / 3 4 5
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]


def test_table_by_hand():
    """head_dim 8: per axis the frequencies 1 and 10000^(-1/2), each for a neighboring pair; first half, first axis."""
    table = rope_table(2, 3, head_dim=8)
    assert table.shape == (2, 6, 8) and table.dtype == torch.float32
    angles = torch.tensor([1, 1, 0.01, 0.01, 2, 2, 0.02, 0.02])  # token 5 sits at (1, 2)
    torch.testing.assert_close(table[:, 5], torch.stack([angles.cos(), angles.sin()]))


def test_pairs_are_neighbors():
    """(a, b) turns to (a cos - b sin, b cos + a sin)."""
    table = rope_table(3, 1, head_dim=4)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(1, 1, 3, 4)
    cos, sin = torch.tensor(2.0).cos(), torch.tensor(2.0).sin()
    expected = torch.stack([cos - 2 * sin, 2 * cos + sin, torch.tensor(3.0), torch.tensor(4.0)])
    torch.testing.assert_close(apply_rope(x, table)[0, 0, 2], expected)


@pytest.mark.parametrize(("h", "w"), GRIDS)
def test_norms_are_kept(h, w):
    torch.manual_seed(0)
    x = torch.randn(2, 3, h * w, 16)
    torch.testing.assert_close(apply_rope(x, rope_table(h, w, 16)).norm(dim=-1), x.norm(dim=-1))


@pytest.mark.parametrize(("h", "w"), GRIDS)
def test_scores_depend_on_relative_positions_alone(h, w):
    """The same q and k everywhere: q_i · k_j is one function of the two differences of position."""
    torch.manual_seed(0)
    table = rope_table(h, w, 16)
    q, k = (apply_rope(torch.randn(16).expand(1, 1, h * w, 16), table)[0, 0] for _ in range(2))
    scores = q @ k.T
    first, second = (p[:, None] - p for p in token_positions(h, w))
    for difference in set(zip(first.flatten().tolist(), second.flatten().tolist(), strict=True)):
        same = scores[(first == difference[0]) & (second == difference[1])]
        torch.testing.assert_close(same, same[:1].expand_as(same))
    distinct = scores.flatten().round(decimals=4).unique()
    assert len(distinct) == (2 * h - 1) * (2 * w - 1)


def test_low_precision_is_rotated_in_float32():
    torch.manual_seed(0)
    x, table = torch.randn(1, 2, 15, 16).bfloat16(), rope_table(3, 5, 16)
    rotated = apply_rope(x, table)
    assert rotated.dtype == torch.bfloat16
    assert torch.equal(rotated, apply_rope(x.float(), table).bfloat16())
