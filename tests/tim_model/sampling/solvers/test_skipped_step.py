from __future__ import annotations

import pytest
import torch

from tests.tim_model.sampling.solvers.problems import START, UNIFORM, gaussian, mixture
from tim_model.sampling.noise import image_noise_stream, noise_stream
from tim_model.sampling.solvers.skipped_step import skipped_step
from tim_model.sampling.solvers.steps import euler

NOISE = torch.randn(200_000, 1, 1, 1, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("options", [{"eta": 0.0}, {"switch": 1.0, "eta": 1.0}], ids=str)
def test_without_new_noise_it_is_euler(options):
    """The step at t = 1 is never below the switch, so that it starts later."""
    times = [0.99, *UNIFORM[8][1:]]
    torch.testing.assert_close(
        skipped_step(mixture, START, times, **options), euler(mixture, START, times), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_state_keeps_its_variance(eta):
    """With F of point masses at 0 the state at r is Gaussian noise times r, however much of it is new."""
    end = skipped_step(lambda x, t: x / t, NOISE, [1.0, 0.8, 0.3, 0.1], eta, noise_fn=noise_stream(1))
    assert float(end.std()) == pytest.approx(0.1, rel=0.01)


def test_at_the_end_is_what_the_velocity_says():
    state = 0.5 * START
    end = skipped_step(gaussian, state, [0.5, 0.0])
    torch.testing.assert_close(end, state - 0.5 * gaussian(state, 0.5))


def test_same_seed_same_image():
    one, again, other = (skipped_step(mixture, START, UNIFORM[8], noise_fn=image_noise_stream(s)) for s in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize("options", [{"eta": 1.5}, {"eta": -0.1}, {"switch": 2.0}], ids=str)
def test_bad_settings_are_one_line(options):
    with pytest.raises(ValueError, match="expected a number from 0 to 1"):
        skipped_step(mixture, START, UNIFORM[4], **options)
