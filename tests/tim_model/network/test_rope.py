"""Rotary embedding: rotations, relative positions, the grid order of the trained weights, scalings beyond it."""

from __future__ import annotations

import math

import pytest
import torch
from torch._subclasses import FakeTensorMode

from tim_model.network.rope import (
    ROPE_SCALINGS,
    UNSCALED,
    RopeScaling,
    RopeTables,
    apply_rope,
    rope_table,
    token_positions,
)

GRIDS = [(4, 4), (3, 5), (5, 3), (1, 6), (6, 1), (4, 10), (10, 4)]  # the last two: the widest published aspects


@pytest.mark.parametrize(("h", "w"), GRIDS)
def test_token_n_sits_at_n_mod_h_and_n_div_h(h, w):
    first, second = token_positions(h, w)
    assert first.tolist() == [n % h for n in range(h * w)]
    assert second.tolist() == [n // h for n in range(h * w)]


@pytest.mark.parametrize(("h", "w"), GRIDS)
def test_positions_are_those_of_a_meshgrid_in_xy_order(h, w):
    """As the released code builds them, whose rows then have h entries instead of w."""
    expected = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="xy")
    for found, grid in zip(token_positions(h, w), expected, strict=True):
        assert torch.equal(found, grid.flatten())


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
    assert table.shape == (2, 6, 1, 4, 2) and table.dtype == torch.float32
    torch.testing.assert_close(table[:, 5], table_of(torch.tensor([[1, 0.01, 2, 0.02]]))[:, 0])  # which sits at (1, 2)


def test_pairs_are_neighbors():
    """(a, b) turns to (a cos - b sin, b cos + a sin)."""
    table = rope_table(3, 1, head_dim=4)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(1, 3, 1, 4)
    cos, sin = torch.tensor(2.0).cos(), torch.tensor(2.0).sin()
    expected = torch.stack([cos - 2 * sin, 2 * cos + sin, torch.tensor(3.0), torch.tensor(4.0)])
    torch.testing.assert_close(apply_rope(x, table)[0, 2, 0], expected)


@pytest.mark.parametrize(("h", "w"), GRIDS)
def test_norms_are_kept(h, w):
    torch.manual_seed(0)
    x = torch.randn(2, h * w, 3, 16)
    torch.testing.assert_close(apply_rope(x, rope_table(h, w, 16)).norm(dim=-1), x.norm(dim=-1))


@pytest.mark.parametrize(("h", "w"), GRIDS)
def test_scores_depend_on_relative_positions_alone(h, w):
    """The same q and k everywhere: q_i · k_j is one function of the two differences of position."""
    torch.manual_seed(0)
    table = rope_table(h, w, 16)
    q, k = (apply_rope(torch.randn(16).expand(1, h * w, 1, 16), table)[0, :, 0] for _ in range(2))
    scores = q @ k.T
    first, second = (p[:, None] - p for p in token_positions(h, w))
    for difference in set(zip(first.flatten().tolist(), second.flatten().tolist(), strict=True)):
        same = scores[(first == difference[0]) & (second == difference[1])]
        torch.testing.assert_close(same, same[:1].expand_as(same))
    distinct = scores.flatten().round(decimals=4).unique()
    assert len(distinct) == (2 * h - 1) * (2 * w - 1)


def test_low_precision_is_rotated_in_the_precision_of_the_table():
    torch.manual_seed(0)
    x, table = torch.randn(1, 15, 2, 16).bfloat16(), rope_table(3, 5, 16)
    exact = apply_rope(x.float(), table)
    assert torch.equal(apply_rope(x, table), exact.bfloat16())
    rotated = apply_rope(x, rope_table(3, 5, 16, dtype=torch.bfloat16))
    assert rotated.dtype == torch.bfloat16
    assert (rotated - exact).abs().max() <= 3 * 2**-9 * x.abs().max() * 2**0.5  # three roundings of up to half a bit


def test_both_ways_to_rotate_agree():
    """As complex numbers, which the CPU takes, and as real ones, which compilers and other devices take."""
    torch.manual_seed(0)
    x, table = torch.randn(2, 15, 3, 16), rope_table(3, 5, 16)
    real = torch.compile(apply_rope, fullgraph=True, backend="eager")(x, table)
    torch.testing.assert_close(real, apply_rope(x, table))


def test_tables_are_kept_by_size_scaling_and_precision():
    tables, cpu = RopeTables(16, most=2), torch.device("cpu")
    with torch.inference_mode():
        first = tables(4, 6, cpu, UNSCALED, torch.float32)
    assert torch.equal(first, rope_table(4, 6, 16)) and not first.is_inference()
    assert tables(4, 6, cpu, RopeScaling("none", 1), torch.float32) is first
    scaled, half = (4, 6, cpu, RopeScaling("ntk", 2), torch.float32), (4, 6, cpu, UNSCALED, torch.bfloat16)
    assert torch.equal(tables(*scaled), rope_table(4, 6, 16, scaling=RopeScaling("ntk", 2)))
    assert tables(*half).dtype == torch.bfloat16 and len(tables.kept) == 2
    assert tables(4, 6, cpu, UNSCALED, torch.float32) is not first  # the oldest went
    with FakeTensorMode():
        fake = tables(3, 3, cpu, UNSCALED, torch.float32)
    assert fake is not tables(3, 3, cpu, UNSCALED, torch.float32)
    assert torch.equal(tables(3, 3, cpu, UNSCALED, torch.float32), rope_table(3, 3, 16))


def released_frequencies(head_dim: int) -> torch.Tensor:
    dim = head_dim // 2
    return 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)


def table_of(angles: torch.Tensor) -> torch.Tensor:
    """The rows (cos, sin) and (-sin, cos) of angles (N, head_dim/2), one for each pair of features."""
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cos, sin], dim=-1), torch.stack([-sin, cos], dim=-1)])[:, :, None]


@pytest.mark.parametrize(("h", "w"), [*GRIDS, (8, 8), (32, 48)])
def test_without_scaling_the_table_is_the_trained_one_to_the_last_bit(h, w):
    frequencies = released_frequencies(72)
    trained = table_of(torch.cat([p[:, None] * frequencies for p in token_positions(h, w)], dim=-1))
    assert torch.equal(rope_table(h, w, 72), trained)
    assert torch.equal(rope_table(h, w, 72, scaling=RopeScaling("none", trained=2)), trained)


@pytest.mark.parametrize("kind", ROPE_SCALINGS)
@pytest.mark.parametrize(("h", "w"), [(8, 8), (5, 8), (2, 3)])
def test_up_to_the_trained_size_no_scaling_changes_a_bit(kind, h, w):
    assert torch.equal(rope_table(h, w, 72, scaling=RopeScaling(kind, trained=8)), rope_table(h, w, 72))


@pytest.mark.parametrize("kind", ["linear", "ntk", "yarn"])
def test_each_axis_has_its_own_factor(kind):
    """16 x 8 on 8 trained tokens: the second axis is as long as trained, the first is scaled."""
    scaling = RopeScaling(kind, trained=8)
    assert (scaling.factor(16), scaling.factor(8), scaling.factor(4)) == (2.0, 1.0, 1.0)
    scaled, trained = (
        table / table[0, 0, 0, 0, 0] for table in (rope_table(16, 8, 32, scaling=scaling), rope_table(16, 8, 32))
    )
    torch.testing.assert_close(scaled[..., 8:, :], trained[..., 8:, :])
    assert not torch.allclose(scaled[..., :8, :], trained[..., :8, :])


@pytest.mark.parametrize(("h", "w", "trained"), [(8, 8, 4), (6, 10, 5), (12, 3, 4)])
def test_linear_is_the_table_of_divided_positions(h, w, trained):
    """The positions keep the order of the trained grid, square or not."""
    n, frequencies = torch.arange(h * w), released_frequencies(16)
    first, second = n % h / max(1, h / trained), n // h / max(1, w / trained)
    expected = table_of(torch.cat([p[:, None] * frequencies for p in (first, second)], dim=-1))
    torch.testing.assert_close(rope_table(h, w, 16, scaling=RopeScaling("linear", trained)), expected)


@pytest.mark.parametrize("side", [33, 64, 100, 128])
def test_linear_stays_within_the_trained_length(side):
    scaled = RopeScaling("linear", trained=32).frequencies(released_frequencies(72), side)
    assert ((side - 1) * scaled < 32 * released_frequencies(72)).all()


@pytest.mark.parametrize("factor", [1.5, 2, 4])
def test_ntk_keeps_the_fastest_and_divides_the_slowest(factor):
    trained = released_frequencies(72)
    scaled = RopeScaling("ntk", trained=32).frequencies(trained, int(32 * factor))
    assert scaled[0] == trained[0]
    torch.testing.assert_close(scaled[-1], trained[-1] / factor)
    assert (scaled[1:] < trained[1:]).all() and (scaled[:-1] > trained[:-1] / factor).all()


@pytest.mark.parametrize("factor", [1.5, 2, 4])
def test_ntk_is_another_base(factor):
    base, dim = 10000.0 * factor ** (36 / 34), 36
    expected = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    scaled = RopeScaling("ntk", trained=32).frequencies(released_frequencies(72), int(32 * factor))
    torch.testing.assert_close(scaled, expected.float(), rtol=1e-5, atol=0)


def test_yarn_by_parts():
    """Over 1024 trained tokens the frequencies turn 163 times down to a tenth: all three parts are there."""
    trained = released_frequencies(72)
    turns = 1024 * trained / (2 * math.pi)
    scaled = RopeScaling("yarn", trained=1024).frequencies(trained, 4096)
    many, few = turns >= 32, turns <= 1
    assert many.any() and few.any() and (~many & ~few).any()
    assert torch.equal(scaled[many], trained[many])
    assert torch.equal(scaled[few], trained[few] / 4)
    gamma = (turns - 1) / 31
    expected = (1 - gamma) * trained / 4 + gamma * trained
    torch.testing.assert_close(scaled[~many & ~few], expected[~many & ~few])


def test_yarn_on_short_sides():
    """32 tokens turn the fastest frequency 5 times, which is still many; over 4 tokens none turns once."""
    trained = released_frequencies(72)
    scaled = RopeScaling("yarn", trained=32).frequencies(trained, 64)
    assert scaled[0] == trained[0]
    assert (scaled[1:] < trained[1:]).all() and (scaled[:-1] > scaled[1:]).all()
    assert torch.equal(RopeScaling("yarn", trained=4).frequencies(trained, 8), trained / 2)


def test_yarn_sharpens_attention_by_its_temperature():
    """sqrt(1/t) = 0.1 ln(s) + 1 in the norms of q and k; the other kinds keep the norms."""
    torch.manual_seed(0)
    x = torch.randn(1, 64, 2, 16)
    for kind in ROPE_SCALINGS:
        ratio = apply_rope(x, rope_table(8, 8, 16, scaling=RopeScaling(kind, 2))).norm(dim=-1) / x.norm(dim=-1)
        torch.testing.assert_close(ratio, torch.full_like(ratio, 0.1 * math.log(4) + 1 if kind == "yarn" else 1.0))
    assert RopeScaling("yarn", 4).magnitude(16, 4) == pytest.approx(0.1 * math.log(2) + 1)  # s = sqrt(4 * 1)


@pytest.mark.parametrize("kind", ROPE_SCALINGS)
def test_scaled_scores_depend_on_relative_positions_alone(kind):
    torch.manual_seed(0)
    table = rope_table(6, 3, 16, scaling=RopeScaling(kind, trained=2))
    q, k = (apply_rope(torch.randn(16).expand(1, 18, 1, 16), table)[0, :, 0] for _ in range(2))
    scores = (q @ k.T).flatten()
    first, second = ((p[:, None] - p).flatten() for p in token_positions(6, 3))
    for difference in set(zip(first.tolist(), second.tolist(), strict=True)):
        same = scores[(first == difference[0]) & (second == difference[1])]
        torch.testing.assert_close(same, same[:1].expand_as(same))


@pytest.mark.parametrize("kind", ROPE_SCALINGS)
def test_tables_are_float32_where_they_are_asked_for(kind):
    scaling = RopeScaling(kind, trained=2)
    table = rope_table(4, 6, 8, torch.device("meta"), scaling)
    assert (table.shape, table.dtype, table.device.type) == ((2, 24, 1, 4, 2), torch.float32, "meta")
    assert rope_table(4, 6, 4, scaling=scaling).isfinite().all()  # a single frequency per axis


def test_scaling_is_a_value():
    assert RopeScaling("ntk", 32) == RopeScaling("ntk", 32) != RopeScaling("ntk", 16)
    assert UNSCALED.kind == "none"


@pytest.mark.parametrize(
    ("kind", "trained", "message"),
    [
        ("dynamic", 32, "RoPE scaling 'dynamic': expected one of none, linear, ntk, yarn"),
        ("ntk", 0, "trained=0: expected the tokens per side in training, from 1"),
    ],
)
def test_scalings_that_do_not_exist_are_refused(kind, trained, message):
    with pytest.raises(ValueError) as error:
        RopeScaling(kind, trained)
    assert str(error.value) == message
