"""dF/dt: exact where calculus gives it, defined at the ends of every range, computed only where it is needed."""

from __future__ import annotations

import pytest
import torch

from tests.tim_model.gaussian import GaussianData
from tests.tim_model.golden import FOLDER, golden, golden_case, relative_error
from tim_model import TRANSPORTS, load_checkpoint
from training.config.schema import ObjectiveConfig
from training.objectives.derivative import configured_derivative, jvp, total_derivative
from training.objectives.sample import Sample

OT_FM = TRANSPORTS["ot_fm"]
EXACT = ["ot_fm", "trigflow", "vp", "ve"]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parabola(x: torch.Tensor, t: torch.Tensor, r: torch.Tensor, context: torch.Tensor, **_) -> torch.Tensor:
    t, r, context = (value.view(-1, 1, 1, 1) for value in (t, r, context))
    return context * t**2 + 3 * t * x + r


def derivative_of(network, path, sample: Sample, **settings) -> torch.Tensor:
    return total_derivative(network, path, sample, configured_derivative(ObjectiveConfig(**settings)))


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("derivative", ["dde", "jvp"])
def test_calculus(derivative, batched):
    """On ot_fm, d/dt (c t² + 3 t x_t + r) = 2 c t + 3 x_t + 3 t (noise - x): quadratic, so that both are exact."""
    x, noise, t, r = draw(2, 1, 2, 3), draw(2, 1, 2, 3, seed=1), torch.tensor([0.7, 0.9]), torch.tensor([0.2, 0.0])
    t, r, c = t.double(), r.double(), torch.tensor([5.0, -2.0], dtype=torch.float64)
    dF_dt = derivative_of(parabola, OT_FM, Sample(x, noise, t, r, c), derivative=derivative, batched=batched)
    x_t, v_t = OT_FM.interpolate(x, noise, t)
    t, c = t.view(-1, 1, 1, 1), c.view(-1, 1, 1, 1)
    torch.testing.assert_close(dF_dt, 2 * c * t + 3 * x_t + 3 * t * v_t)


@pytest.mark.parametrize("name", EXACT)
def test_methods_agree_on_every_transport(name):
    """For the exact transitions of Gaussian data; the difference of the dde shrinks with epsilon²."""
    path, data = TRANSPORTS[name], GaussianData(name)
    t = torch.tensor([0.3, 0.5, 0.8], dtype=torch.float64) * path.T_max
    sample = Sample(draw(3, 1, 2, 2), draw(3, 1, 2, 2, seed=1), t, t / 3, torch.zeros(3))

    def net(x_t, c_t, c_r, context, **_):
        return data.net(x_t, c_t, c_r, context)

    exact = derivative_of(net, path, sample, derivative="jvp")
    steps = 0.02 * path.T_max, 0.01 * path.T_max
    coarse, fine = (relative_error(derivative_of(net, path, sample, epsilon=step), exact) for step in steps)
    assert fine < 0.02
    assert 3.5 < coarse / fine < 4.5


@pytest.mark.parametrize("name", TRANSPORTS)
def test_ends_of_the_range(name):
    """At T_max, at T_min and within epsilon of it, r at T_min: finite, and right for F = t."""
    path = TRANSPORTS[name]
    t = torch.tensor([path.T_max, path.T_min + 1e-3, path.T_min + 2e-5], dtype=torch.float64)
    r = torch.full_like(t, path.T_min)
    x, noise = draw(3, 1, 2, 2), draw(3, 1, 2, 2, seed=1)
    time = {"edm": lambda c: (4 * c).exp(), "ve": lambda c: 2 * c.exp(), "vp": lambda c: c / 999}.get(name, lambda c: c)
    seen = []

    def net(x_t, c_t, c_r, context):
        seen.append(x_t)
        return time(c_t).view(-1, 1, 1, 1).expand_as(x_t)

    dF_dt = derivative_of(net, path, Sample(x, noise, t, r, torch.zeros(3)))
    assert seen[0].isfinite().all()
    torch.testing.assert_close(dF_dt, torch.ones_like(x))


def test_points_are_as_released_on_ot_fm():
    """t +- epsilon without clamping, below 0 and above 1 too."""
    times = []

    def net(x_t, c_t, c_r, context):
        times.extend(c_t.tolist())
        return x_t

    t = torch.tensor([1.0, 0.002], dtype=torch.float64)
    derivative_of(net, OT_FM, Sample(draw(2, 1, 1, 1), draw(2, 1, 1, 1), t, t * 0, torch.zeros(2)))
    assert times == pytest.approx([1.005, 0.007, 0.995, -0.003])


@pytest.mark.parametrize("derivative", ["dde", "jvp"])
def test_diffusion_rows_are_not_computed(derivative):
    batches = []

    def net(x_t, c_t, c_r, context, **_):
        batches.append((len(x_t), context.flatten().tolist()))
        return x_t * c_t.view(-1, 1, 1, 1)

    x, noise, context = draw(4, 1, 2, 2), draw(4, 1, 2, 2, seed=1), torch.arange(4)
    t, r = torch.tensor([0.5, 0.6, 0.5, 0.9]).double(), torch.tensor([0.5, 0.1, 0.5, 0.0]).double()
    dF_dt = derivative_of(net, OT_FM, Sample(x, noise, t, r, context), derivative=derivative)
    assert batches == [(4, [1, 3, 1, 3])] if derivative == "dde" else [(2, [1, 3])]
    assert (dF_dt[[0, 2]] == 0).all() and (dF_dt[[1, 3]] != 0).all()
    batches.clear()
    assert (derivative_of(net, OT_FM, Sample(x, noise, t, t, context), derivative=derivative) == 0).all()
    assert batches == []


@pytest.mark.parametrize("kind", ["t2i", "c2i"])
def test_network_as_it_is(kind):
    """Both methods work on both kinds of network, leave no graph and no change of mode, and agree."""
    net = load_checkpoint(FOLDER / f"{kind}_weights.safetensors").requires_grad_(True).train()
    g = golden_case(f"{kind}_forward", 0)
    batch = len(g["x"])
    noise = draw(*g["x"].shape).float()
    t, r = torch.linspace(0.4, 0.9, batch), torch.linspace(0.1, 0.3, batch)
    sample = Sample(g["x"], noise, t, r, g["y"] if kind == "t2i" else g["label"])
    dde, jvp = (derivative_of(net, OT_FM, sample, derivative=derivative) for derivative in ("dde", "jvp"))
    assert not dde.requires_grad and not jvp.requires_grad and net.training
    assert torch.cosine_similarity(dde.flatten(), jvp.flatten(), dim=0) > 0.9999


def test_settings_of_a_recipe_are_bound():
    """The difference of a quadratic is exact; that of a cubic F = t³ is off by epsilon²."""
    x, t = draw(1, 1, 1, 1), torch.tensor([0.5], dtype=torch.float64)
    sample = Sample(x, x, t, t * 0, t)
    calls = []

    def cube(x_t, c_t, c_r, context, **_):
        calls.append(len(x_t))
        return (c_t**3).view(-1, 1, 1, 1) * torch.ones_like(x_t)

    derivative = configured_derivative(ObjectiveConfig(epsilon=0.1, batched=False))
    assert float(total_derivative(cube, OT_FM, sample, derivative)) == pytest.approx(0.75 + 0.01)
    assert calls == [1, 1]
    assert configured_derivative(ObjectiveConfig(derivative="jvp")) is jvp


def test_refusals():
    g = golden("training")
    sample = Sample(g["x"], g["z"], g["t"], g["r"], g["y"])
    with pytest.raises(ValueError, match="derivative 'euler': expected one of dde, jvp"):
        derivative_of(parabola, OT_FM, sample, derivative="euler")
    with pytest.raises(ValueError, match="epsilon=0: expected a time difference above 0"):
        derivative_of(parabola, OT_FM, sample, epsilon=0)
