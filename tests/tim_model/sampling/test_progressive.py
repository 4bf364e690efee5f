"""Sampling in stages: plans of sizes and times, enlarging, re-noising, and exact networks through all of it."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from tim_model import make_times, sample
from tim_model.network.latent_space import LatentSpace
from tim_model.sampling.noise import draw_noise, noise_stream
from tim_model.sampling.progressive import (
    Stage,
    enlarge,
    plan_stages,
    renoise,
    sample_progressively,
    size_shift,
    stage_seed,
    upscale,
)

from ..gaussian import GaussianData

PIXELS = LatentSpace(3, 1, 1.0)
LABELS = torch.zeros(2, dtype=torch.long)  # a context that the networks here ignore
STAGES = [Stage(8, 4, (1.0, 0.5, 0.0)), Stage(16, 8, (0.6, 0.2, 0.0)), Stage(24, 16, (0.4, 0.0))]
exact = GaussianData("ot_fm").net


def sizes(width: int, height: int, unit: int, **options) -> list[tuple[int, int]]:
    return [(stage.width, stage.height) for stage in plan_stages((width, height), unit, **options)]


def test_plans_of_the_published_model():
    assert sizes(1024, 1024, 32) == [(1024, 1024)]
    assert sizes(2048, 2048, 32) == [(1024, 1024), (2048, 2048)]
    assert sizes(4096, 4096, 32) == [(1024, 1024), (2048, 2048), (4096, 4096)]
    assert sizes(4096, 4096, 32, growth=4) == [(1024, 1024), (4096, 4096)]
    assert sizes(1024, 1024, 32, base_pixels=512 * 512) == [(512, 512), (1024, 1024)]


@pytest.mark.parametrize("size", [(512, 512), (1024, 1024), (2048, 512), (64, 32)])
def test_up_to_the_base_size_there_is_one_stage(size):
    assert plan_stages(size, 32, steps=3) == [Stage(*size, tuple(make_times("uniform", 3)))]


TARGETS = [(1056, 1024), (2048, 1024), (1536, 2688), (3072, 3072), (4096, 2304), (8192, 1024), (2080, 2080)]


@pytest.mark.parametrize("growth", [1.3, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("unit", [8, 16, 32])
@pytest.mark.parametrize("target", TARGETS)
def test_every_plan(target, unit, growth):
    plan = sizes(*target, unit, growth=growth)
    assert plan[-1] == target
    assert all(side % unit == 0 for size in plan for side in size)
    for size, following in pairwise(plan):
        assert size != following
        assert all(side <= end <= side * growth + 1e-6 for side, end in zip(size, following, strict=True))
    aspect = target[0] / target[1]
    for width, height in plan:  # each side is less than one unit off the exact one
        assert (width - unit) / (height + unit) < aspect < (width + unit) / max(height - unit, 1)
    width, height = plan[0]
    assert (width - unit) * (height - unit) < 1024**2 < (width + unit) * (height + unit)
    fewest = 1 + math.log(max(end / side for side, end in zip(plan[0], target, strict=True))) / math.log(growth)
    assert fewest - 1e-6 <= len(plan) < fewest + 2  # rounding may cost one


def test_times_of_a_plan():
    base, middle, last = plan_stages((4096, 4096), 32, steps=4, large_steps=1, renoise=0.35)
    assert base.times == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert middle.times == last.times == (0.35, 0.0)


def test_time_shift_follows_the_tokens():
    base, last = plan_stages((2048, 2048), 32, large_steps=2, renoise=0.5, time_shift=True)
    assert base.times == tuple(make_times("uniform", 4))  # 1024x1024 is what the model knows
    assert last.times == (0.5, pytest.approx(0.5 * 2 * 0.5 / 1.5), 0.0)  # shift 2 for four times the tokens
    assert size_shift(2048, 2048) == 2 and size_shift(1024, 4096) == 2 and size_shift(512, 512) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (1000, 2048)}, "size 1000x2048: expected multiples of 32"),
        ({"size": (2048, 0)}, "size 2048x0"),
        ({"renoise": 0.0}, "renoise=0: expected a time above 0, up to 1"),
        ({"renoise": 1.5}, "renoise=1.5"),
        ({"growth": 1.0}, "growth=1: expected a factor above 1"),
        ({"growth": 0.5}, "growth=0.5"),
        ({"growth": 1.01}, "growth=1.01: expected enough to enlarge 1024x1024 by 32 pixels"),
        ({"growth": 1.9, "size": (64, 2**20)}, "growth=1.9: expected enough to enlarge 32x"),
        ({"base_pixels": 100}, "base_pixels=100: expected at least 32x32"),
        ({"steps": 0}, "steps=0"),
        ({"large_steps": 0}, "steps=0"),
    ],
)
def test_plans_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError) as error:
        plan_stages(**{"size": (2048, 2048), "unit": 32} | settings)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_upscale_keeps_flat_pictures_and_the_layout():
    flat = torch.full((1, 3, 4, 6), 0.3)
    torch.testing.assert_close(upscale(flat, 15, 8), torch.full((1, 3, 8, 15), 0.3))
    halves = torch.tensor([-1.0, -1, -1, 1, 1, 1]).expand(1, 1, 4, 6)  # dark left of bright
    wide = upscale(halves, 12, 8)
    assert (wide[..., :5] < -0.9).all() and (wide[..., 7:] > 0.9).all()


def test_renoise_ends_are_exact():
    x, noise = draw_noise((1, 3, 8, 8), 0), draw_noise((1, 3, 8, 8), 1)
    assert torch.equal(renoise(x, noise, 0.0), x)
    assert torch.equal(renoise(x, noise, 1.0), noise)
    torch.testing.assert_close(renoise(x, noise, 0.25), 0.75 * x + 0.25 * noise)


def test_renoised_data_has_the_statistics_of_its_time():
    """Mean (1 - s) m and variance ((1 - s) std)² + s², those of the path that the network was trained on."""
    x, noise = 0.4 + 0.7 * draw_noise((1, 1, 400, 400), 0), draw_noise((1, 1, 400, 400), 1)
    alpha, _, std = GaussianData("ot_fm").coefficients(torch.tensor(0.3))
    x_s = renoise(x, noise, 0.3)
    assert x_s.mean().item() == pytest.approx(0.4 * alpha.item(), abs=0.01)
    assert x_s.std().item() == pytest.approx(std.item(), rel=0.01)


def test_seeds_of_stages():
    assert stage_seed(5, 0) == 5
    assert stage_seed((5, 6), 2) == (stage_seed(5, 2), stage_seed(6, 2))
    seeds = {stage_seed(seed, stage) % 2**32 for seed in range(100) for stage in range(8)}
    assert len(seeds) == 800  # in the 32 bits that the generator of the CPU takes
    torch.Generator().manual_seed(stage_seed(2**64 - 1, 3))  # still a seed


@pytest.mark.parametrize("stochasticity", [0.0, 0.2])
def test_one_stage_is_plain_sampling(class_net, stochasticity):
    labels, times = torch.tensor([3, 7]), (1.0, 0.6, 0.3, 0.0)
    settings = {"cfg": 2.5, "guidance_interval": (0.0, 0.9), "stochasticity": stochasticity}
    space = LatentSpace(4, 8, 0.18215)
    staged = sample_progressively(class_net, [Stage(48, 64, times)], labels, space=space, seed=11, **settings)
    noise = draw_noise((2, 4, 8, 6), 11)
    assert torch.equal(staged, sample(class_net, noise, times, labels, noise_fn=noise_stream(11), **settings))


def test_exact_network_makes_exact_transitions_at_every_size():
    """Each stage is the flow from its re-noised start to 0, whatever its steps."""
    flow, zero = GaussianData("ot_fm").flow, torch.tensor(0.0)
    x = 0.4 + 0.7 * draw_noise((2, 3, 4, 8), 9)
    for i, (width, height, s) in enumerate([(16, 8, 0.6), (24, 16, 0.4)], start=1):
        noise = draw_noise((2, 3, height, width), stage_seed(9, i))
        x = flow((1 - s) * upscale(x, width, height) + s * noise, torch.tensor(s), zero)
    found = sample_progressively(exact, STAGES, LABELS, space=PIXELS, seed=9)
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-5)


def test_last_stage_repairs_what_enlarging_spoils():
    """Where all data is one picture, the last transition lands on it from anything."""
    found = sample_progressively(GaussianData("ot_fm", std=0.0).net, STAGES, LABELS, space=PIXELS)
    torch.testing.assert_close(found, torch.full((2, 3, 16, 24), 0.4), rtol=1e-5, atol=1e-6)


def test_same_seed_same_picture():
    torch.manual_seed(0)
    first = sample_progressively(exact, STAGES, LABELS, space=PIXELS, seed=4, stochasticity=0.2)
    torch.manual_seed(1)  # the global generator has no part in it
    assert torch.equal(first, sample_progressively(exact, STAGES, LABELS, space=PIXELS, seed=4, stochasticity=0.2))
    other = sample_progressively(exact, STAGES, LABELS, space=PIXELS, seed=5, stochasticity=0.2)
    assert not torch.allclose(first, other)
    assert not torch.allclose(first[0], first[1])


def test_later_stages_do_not_touch_earlier_ones():
    """The base picture of a plan is that of its first stage alone."""
    states = []
    sample_progressively(
        exact, STAGES, LABELS, space=PIXELS, seed=4, callback=lambda step: states.append((step.i, step.x_r))
    )
    assert [i for i, _ in states] == [0, 1, 0, 1, 0]  # steps count from 0 in each stage
    base = sample_progressively(exact, STAGES[:1], LABELS, space=PIXELS, seed=4)
    assert torch.equal(states[1][1], base)


class Shuffle:
    """A VAE without loss: 2x2 pixels of 3 channels are one cell of 12."""

    space = LatentSpace(12, 2, 1.0)

    def decode(self, latents):
        return F.pixel_shuffle(latents, 2)

    def encode(self, images):
        self.images = images
        return F.pixel_unshuffle(images, 2).double()


def test_enlarging_goes_through_the_pixels():
    vae, picture = Shuffle(), draw_noise((1, 3, 8, 12), 0).clamp(-1, 1)
    latents = F.pixel_unshuffle(picture, 2)
    found = enlarge(latents, (1, 12, 8, 12), vae, vae.space)
    assert torch.equal(F.pixel_shuffle(found, 2), upscale(picture, 24, 16).clamp(-1, 1))
    assert found.dtype == latents.dtype
    assert vae.images.abs().max() == 1  # the overshoot of the edges is cut


def test_enlarged_pictures_have_no_more_range_than_picture_files():
    """What a VAE overshoots is cut before it is enlarged, as hosts cut it."""
    vae, latents = Shuffle(), 3 * draw_noise((1, 12, 4, 6), 0)
    found, cut = (enlarge(x, (1, 12, 8, 12), vae, vae.space) for x in (latents, latents.clamp(-1, 1)))
    assert torch.equal(found, cut)


def test_sampling_through_the_pixels():
    vae, stages = Shuffle(), [Stage(16, 8, (1.0, 0.0)), Stage(32, 16, (0.5, 0.0))]
    net = GaussianData("ot_fm", mean=0.2, std=0.1).net
    found = sample_progressively(net, stages, LABELS, space=vae.space, vae=vae)
    assert found.shape == (2, 12, 8, 16)
    assert vae.images.shape == (2, 3, 16, 32)  # the last stage is left to the caller to decode
    latents = sample_progressively(net, stages, LABELS, space=vae.space)
    assert not torch.allclose(found, latents)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "no stages"),
        ([Stage(8, 8, (0.8, 0.0)), STAGES[1]], "stage 0 runs from 0.8 to 0: expected it from 1 (pure noise) to 0"),
        ([Stage(8, 8, (0.2, 0.8))], "strictly decreasing"),
        (
            [STAGES[0], Stage(16, 8, (0.5, 0.1))],
            "stage 1 runs from 0.5 to 0.1: expected it from its re-noise time to 0",
        ),
        ([STAGES[0], Stage(16, 8, (0.5,))], "expected at least two"),
        ([STAGES[0], Stage(16, 8, (0.2, 0.5, 0.0))], "strictly decreasing"),
    ],
)
def test_stages_that_do_not_follow_are_refused(stages, message):
    with pytest.raises(ValueError) as error:
        sample_progressively(exact, stages, LABELS, space=PIXELS)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_one_stage_takes_what_sampling_takes():
    """Times that end above 0, and other paths than ot_fm."""
    times = (0.9, 0.5, 0.1)
    net, noise = GaussianData("trigflow").net, draw_noise((2, 3, 4, 8), 3)
    found = sample_progressively(net, [Stage(8, 4, times)], LABELS, space=PIXELS, seed=3, transport="trigflow")
    assert torch.equal(found, sample(net, noise, times, LABELS, transport="trigflow"))


def test_stages_on_another_path_are_refused():
    with pytest.raises(ValueError, match="^transport 'trigflow' in 3 stages: expected ot_fm"):
        sample_progressively(exact, STAGES, LABELS, space=PIXELS, transport="trigflow")


def test_sizes_off_the_latents_are_refused():
    with pytest.raises(ValueError, match="size 9x8: expected multiples of 2"):
        sample_progressively(exact, [Stage(9, 8, (1.0, 0.0))], LABELS, space=Shuffle.space)
