"""Seeded noise: the same on every machine, and never the same draw twice."""

from __future__ import annotations

import pytest
import torch

from tim_model.sampling.noise import draw_noise, image_noise_stream, noise_stream


def test_noise_is_that_of_the_seed():
    """As ComfyUI draws it: torch.randn on the CPU after seeding."""
    torch.manual_seed(7)
    expected = torch.randn(2, 3, 4, 5)
    assert torch.equal(draw_noise([2, 3, 4, 5], seed=7), expected)
    assert not torch.equal(draw_noise([2, 3, 4, 5], seed=8), expected)


def test_stream_repeats_neither_itself_nor_the_start():
    start, fresh = draw_noise((1000,), seed=7), noise_stream(7)
    draws = torch.stack([start, fresh(start), fresh(start)])
    assert (torch.corrcoef(draws) - torch.eye(3)).abs().max() < 0.15
    again = noise_stream(7)
    assert torch.equal(torch.stack([again(start), again(start)]), draws[1:])


def test_stream_follows_its_argument():
    x = torch.zeros(2, 3, dtype=torch.float64)
    assert noise_stream(7)(x).dtype == torch.float64
    assert noise_stream(7)(x).shape == (2, 3)


def test_global_seed_is_left_alone():
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    noise_stream(1)(draw_noise((3,), seed=2))
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.parametrize("stream", [noise_stream, image_noise_stream])
def test_seeds_of_images_are_those_of_the_images_alone(stream):
    seeds, x = (3, 2**64 - 1, 3), torch.zeros(3, 2, 4)
    assert torch.equal(draw_noise(x.shape, seeds), torch.cat([draw_noise((1, 2, 4), seed) for seed in seeds]))
    together, alone = stream(seeds), [stream(seed) for seed in seeds]
    for _ in range(2):
        assert torch.equal(together(x), torch.cat([draw(x[:1]) for draw in alone]))
