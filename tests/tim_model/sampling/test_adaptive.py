"""As many transitions as each image needs."""

from __future__ import annotations

import logging

import pytest
import torch

from tim_model import make_times, sample
from tim_model.sampling.adaptive import LEAST, choose_strides, later_steps, sample_adaptively

from ..gaussian import GaussianData

NOISE = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
LEVELS = torch.tensor([0.0, 0.8, 3.0])  # of the error of each image's network, its context
TIMES = make_times("uniform", 12)  # 4 probes and up to 8 steps


def bent(x, t, r, levels):
    """An exact network with an error that grows with the step, more for some images than for others."""
    exact = GaussianData("ot_fm").net(x, t, r, None)
    return exact + (levels * (t - r))[:, None, None, None]


class Counted:
    def __init__(self, net=bent):
        self.net, self.calls, self.steps = net, 0, []

    def __call__(self, x, t, r, context):
        self.calls += 1
        self.steps.append((t, r))
        return self.net(x, t, r, context)


@pytest.mark.parametrize("most", [6, 7, 8, 11, 16, 40])
@pytest.mark.parametrize("tolerance", [1e-6, 0.05, 0.3, 100.0])
def test_never_more_calls_than_steps(most, tolerance):
    net = Counted()
    sample_adaptively(net, NOISE, make_times("uniform", most), tolerance, LEVELS)
    assert 4 <= net.calls <= most


def test_an_exact_network_is_done_after_four_calls():
    net, seen = Counted(), []
    x = sample_adaptively(net, NOISE, TIMES, 1e-4, torch.zeros(3), callback=seen.append)
    assert net.calls == len(seen) == 4
    torch.testing.assert_close(x, sample(bent, NOISE, [1.0, 0.0], torch.zeros(3)), atol=1e-5, rtol=0)


def test_images_that_need_more_steps_get_them_and_the_others_wait():
    """Each as by plain transitions through its own times."""
    net = Counted()
    x = sample_adaptively(net, NOISE, TIMES, 0.15, LEVELS)
    later = make_times("uniform", 8, 0.6)
    strides = [0, 4, 1]
    for i, stride in enumerate(strides):
        times = [1.0, 0.75, *later[::stride]] if stride else [1.0, 0.75, 0.6, 0.0]
        own = sample(bent, NOISE[i : i + 1], times, LEVELS[i : i + 1])
        torch.testing.assert_close(x[i : i + 1], own, atol=1e-5, rtol=1e-5)
    assert net.calls == 4 + 8


def test_no_image_depends_on_the_others():
    together = sample_adaptively(bent, NOISE, TIMES, 0.15, LEVELS)
    for i in range(3):
        alone = sample_adaptively(bent, NOISE[i : i + 1], TIMES, 0.15, LEVELS[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=1e-6)


def test_smaller_tolerances_take_more_calls():
    calls = []
    for tolerance in (10.0, 0.5, 0.2, 1e-3):
        net = Counted()
        sample_adaptively(net, NOISE[1:2], make_times("uniform", 20), tolerance, LEVELS[1:2])
        calls.append(net.calls)
    assert calls[0] == 4 and calls == sorted(calls) and calls[-1] == 20


def test_steps_for_a_difference():
    """2 d / E steps in all, of which the first is taken, rounded up to a halving of the most."""
    assert choose_strides([0.1, 0.11, 0.19, 0.24, 0.26, 0.4, 9.0], 0.1, 12) == [0, 4, 4, 2, 2, 1, 1]
    assert choose_strides([0.11, 0.26, 9.0], 0.1, 3) == [1, 1, 1]
    assert choose_strides([float("nan")], 0.1, 4) == [1]


def test_the_most_steps_can_be_halved():
    assert [later_steps(most) for most in (6, 7, 8, 9, 10, 12, 15, 16, 17, 20)] == [2, 3, 4, 4, 6, 8, 8, 12, 12, 16]


def test_other_ends():
    """The places are shares of the way."""
    found = sample_adaptively(bent, NOISE, make_times("uniform", 6, 0.8, 0.2), 100.0, LEVELS)
    torch.testing.assert_close(found, sample(bent, NOISE, [0.8, 0.65, 0.56, 0.2], LEVELS))


def test_waiting_images_keep_what_was_last_seen_of_them():
    """x - t F of every report is an image: of those that are done their end."""
    seen = []
    x = sample_adaptively(bent, NOISE, TIMES, 0.15, LEVELS, callback=seen.append)
    assert [step.i for step in seen] == list(range(12))
    for step in seen[4:]:
        torch.testing.assert_close((step.x_t - step.t * step.F)[0], x[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_guidance_is_that_of_sample(text_net, cfg):
    """With every image at the most steps."""
    noise = NOISE[:2].repeat(1, 2, 2, 2)[:, : text_net.params.in_channels]
    context = torch.randn(2, 3, text_net.params.context_dim, generator=torch.Generator().manual_seed(1))
    times, null = [1.0, 0.75, 0.6, 0.4, 0.2, 0.0], torch.zeros_like(context)
    found = sample_adaptively(text_net, noise, make_times("uniform", 7), 1e-6, context, null, cfg=cfg)
    torch.testing.assert_close(found, sample(text_net, noise, times, context, null, cfg=cfg))


def test_the_calls_are_logged(caplog):
    caplog.set_level(logging.INFO)
    sample_adaptively(bent, NOISE, TIMES, 0.15, LEVELS)
    assert caplog.messages == ["12 network calls of at most 12; each image by itself: 4 (1x), 6 (1x), 12 (1x)"]


def test_few_steps_are_taken_as_they_are(caplog):
    times = [1.0, 0.9, 0.3, 0.0]
    found = sample_adaptively(bent, NOISE, times, 0.3, LEVELS)
    assert torch.equal(found, sample(bent, NOISE, times, LEVELS))
    assert f"nothing to choose below {LEAST}" in caplog.text


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_tolerance_is_one_line(tolerance):
    with pytest.raises(ValueError, match="expected a number above 0"):
        sample_adaptively(bent, NOISE, TIMES, tolerance, LEVELS)


@pytest.mark.parametrize("settings", [{"restart": 0.5}, {"velocity": True}, {"transport": "vp"}])
def test_only_plain_transitions(settings):
    with pytest.raises(ValueError, match="leave one out"):
        sample_adaptively(bent, NOISE, TIMES, 0.15, LEVELS, **settings)
