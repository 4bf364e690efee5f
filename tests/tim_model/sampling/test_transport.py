"""Transports: golden values, and the exact identities that paths, targets and steps obey."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.functional import jvp

from tim_model import TRANSPORTS
from tim_model.sampling.transport import get_transport

from ..gaussian import GaussianData
from ..golden import assert_reproduces, golden_case, relative_error

EXACT = ["ot_fm", "trigflow", "vp", "ve"]  # edm is released with a step that leaves its path


def draw_times(name: str, n: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """n pairs t > r all over the range of a transport, (n,1,1,1) in double precision."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.rand(n, 2, generator=generator, dtype=torch.float64).sort(dim=1, descending=True).values
    path = TRANSPORTS[name]
    low = max(path.T_min, 1e-3 * path.T_max)
    t, r = (low + (path.T_max - low) * pairs).T
    return t.view(-1, 1, 1, 1), r.view(-1, 1, 1, 1)


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", TRANSPORTS)
def test_golden(name):
    path, g = TRANSPORTS[name], golden_case("transports", name)
    t, r = g["t"], g["r"]
    for key, value in zip(("alpha", "sigma", "d_alpha", "d_sigma"), path.interpolant(t), strict=True):
        assert_reproduces(value, g[key])
    x_t, v_t = TRANSPORTS[name].interpolate(g["x"], g["z"], t)
    assert_reproduces(x_t, g["x_t"])
    assert_reproduces(path.c_noise(t), g["c_noise"])
    assert_reproduces(path.target(x_t, v_t, g["x"], g["z"], t, r, g["dF_dt"]), g["target"])
    assert_reproduces(path.step(x_t, t, r, g["F"]), g["x_r"])


def test_golden_guided_target():
    """Guidance enters the target as another v_t, inside a window of times."""
    g = golden_case("transports", "ot_fm_guided")
    x, z, t = g["x"], g["z"], g["t"]
    x_t, v_t = TRANSPORTS["ot_fm"].interpolate(x, z, t)
    w_gt, w_cond = 1, 0.75
    mixture = w_gt * v_t + w_cond * g["F_cond"] + (1 - w_gt - w_cond) * g["F_uncond"]
    inside = (t >= 0.3) & (t <= 0.8)
    assert inside.any() and not inside.all()
    target = TRANSPORTS["ot_fm"].target(x_t, torch.where(inside, mixture, v_t), x, z, t, g["r"], g["dF_dt"])
    assert_reproduces(target, g["target"])


@pytest.mark.parametrize("name", TRANSPORTS)
def test_rates_are_the_derivatives(name):
    path, (t, _) = TRANSPORTS[name], draw_times(name)
    (_, _, d_alpha, d_sigma) = path.interpolant(t)
    _, (expected_alpha, expected_sigma) = jvp(lambda t: path.interpolant(t)[:2], t, torch.ones_like(t))
    torch.testing.assert_close(d_alpha, expected_alpha)
    torch.testing.assert_close(d_sigma, expected_sigma)


@pytest.mark.parametrize("name", TRANSPORTS)
def test_paths_run_from_noise_to_data(name):
    """At T_max the noise outweighs the data, at T_min the data the noise; the ratio falls all the way."""
    path = TRANSPORTS[name]
    t = torch.linspace(path.T_max, path.T_min, 200, dtype=torch.float64)
    alpha, sigma, _, _ = path.interpolant(t)
    assert (sigma[1:] / alpha[1:] < sigma[:-1] / alpha[:-1]).all()
    assert alpha[0] < 0.02 * sigma[0]
    assert sigma[-1] <= 0.02 * alpha[-1]


@pytest.mark.parametrize("name", ["trigflow", "vp"])
def test_variance_is_preserved(name):
    alpha, sigma, _, _ = TRANSPORTS[name].interpolant(draw_times(name)[0])
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))


# dF/dt along the path of a single data point, as a multiple of x_t: F is z - x, v_t, z and -z there
POINT_MASS_RATE = {"ot_fm": 0, "trigflow": -1, "vp": 0, "ve": 0}


@pytest.mark.parametrize("name", EXACT)
def test_one_data_point_is_carried_along_its_path(name):
    """Where all data is one x, a step with the target as F goes from x_t to x_r of the same noise, for any t and r."""
    path, (t, r) = TRANSPORTS[name], draw_times(name)
    x, z = draw(1, 2, 3, 5), draw(64, 2, 3, 5, seed=2)
    x_t, v_t = TRANSPORTS[name].interpolate(x, z, t)
    F = path.target(x_t, v_t, x, z, t, r, POINT_MASS_RATE[name] * x_t)
    torch.testing.assert_close(path.step(x_t, t, r, F), TRANSPORTS[name].interpolate(x, z, r)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("std", [0.0, 0.7])
@pytest.mark.parametrize("name", EXACT)
def test_exact_transition_is_the_fixed_point_of_training(name, std):
    """The F whose step follows the probability flow of Gaussian data equals the target that it makes, on average.

    The target is linear in data, noise and v_t, so that its expectation given x_t takes theirs.
    """
    path, data, (t, r) = TRANSPORTS[name], GaussianData(name, std=std), draw_times(name)
    x_t = TRANSPORTS[name].interpolate(draw(64, 1, 2, 3), draw(64, 1, 2, 3, seed=2), t)[0]
    x, noise, v_t = data.expected(x_t, t)
    F, dF_dt = jvp(lambda x_t, t: data.F(x_t, t, r), (x_t, t), (v_t, torch.ones_like(t)))
    torch.testing.assert_close(path.target(x_t, v_t, x, noise, t, r, dF_dt), F, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(path.step(x_t, t, r, F), data.flow(x_t, t, r), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", TRANSPORTS)
def test_rate_does_not_matter_without_an_interval(name):
    """r = t is diffusion training: the target is the instantaneous one, and the step stays where it is."""
    path, (t, _) = TRANSPORTS[name], draw_times(name)
    x, z = draw(64, 1, 2, 3), draw(64, 1, 2, 3, seed=2)
    x_t, v_t = TRANSPORTS[name].interpolate(x, z, t)
    targets = [path.target(x_t, v_t, x, z, t, t, dF_dt) for dF_dt in (0 * x, draw(64, 1, 2, 3, seed=3))]
    torch.testing.assert_close(*targets)
    torch.testing.assert_close(path.step(x_t, t, t, targets[0]), x_t)


def test_edm_step_leaves_its_path_as_released():
    """With its instantaneous target as F, the step of the golden case ends 5.9% off the path."""
    path, g = TRANSPORTS["edm"], golden_case("transports", "edm")
    x, z, t, r = g["x"], g["z"], g["t"], g["r"]
    x_t, v_t = TRANSPORTS["edm"].interpolate(x, z, t)
    F = path.target(x_t, v_t, x, z, t, t, torch.zeros_like(x))
    x_r = TRANSPORTS["edm"].interpolate(x, z, r)[0]
    assert float((path.step(x_t, t, r, F) - x_r).norm() / x_r.norm()) == pytest.approx(0.059, abs=5e-4)


@pytest.mark.parametrize("name", TRANSPORTS)
def test_float32_is_enough(name):
    path, (t, r) = TRANSPORTS[name], draw_times(name)
    x, z = draw(64, 1, 2, 3), draw(64, 1, 2, 3, seed=2)
    x_t, v_t = TRANSPORTS[name].interpolate(x, z, t)
    exact = path.step(x_t, t, r, v_t), path.target(x_t, v_t, x, z, t, r, x)
    x, z, t, r, x_t, v_t = (value.float() for value in (x, z, t, r, x_t, v_t))
    for value, expected in zip((path.step(x_t, t, r, v_t), path.target(x_t, v_t, x, z, t, r, x)), exact, strict=True):
        assert value.dtype == torch.float32
        assert relative_error(value.double(), expected) < 1e-5


def test_unknown_name():
    assert get_transport("ve") is TRANSPORTS["ve"]
    with pytest.raises(ValueError, match="transport 'ddpm': expected one of ot_fm, trigflow, edm, vp, ve"):
        get_transport("ddpm")
