"""The TiM loss: golden values, its minimum where theory puts it, guidance, weights and guards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.tim_model.gaussian import GaussianData
from tests.tim_model.golden import FOLDER, assert_reproduces, golden, golden_case, relative_error
from tests.training.losses import loss_of
from tim_model import TRANSPORTS, load_checkpoint
from training.objectives.loss import denoising_loss, time_weight
from training.objectives.sample import Sample

EXACT = ["ot_fm", "trigflow", "vp", "ve"]
TIME_OF_C_NOISE = {
    "ot_fm": lambda c: c, "trigflow": lambda c: c, "edm": lambda c: (4 * c).exp(), "vp": lambda c: c / 999,
    "ve": lambda c: 2 * c.exp(),
}  # fmt: skip


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def golden_net(kind: str = "t2i"):
    return load_checkpoint(FOLDER / f"{kind}_weights.safetensors").requires_grad_(True)


def golden_batch(**more: torch.Tensor) -> Sample:
    g = golden("training")
    return Sample(g["x"], g["z"], g["t"], g["r"], g["y"], **more)


@pytest.mark.parametrize("derivative", ["dde", "jvp"])
def test_golden(derivative):
    g, expected = golden("training"), golden_case("training", derivative)
    out = loss_of(golden_net(), golden_batch(h_target=g["h_target"]), derivative=derivative)
    assert_reproduces(out.dF_dt, expected["dF_dt"], 1e-4)
    assert_reproduces(out.target, expected["target"], 1e-4)
    assert_reproduces(out.time_weight, expected["time_weight"])
    assert_reproduces(out.denoising_loss.mean(0, keepdim=True), expected["denoising_loss"])
    assert_reproduces(out.weighted_loss[None], expected["weighted_loss"])
    assert_reproduces(out.proj_loss[None], expected["proj_loss"])
    assert out.denoising_loss.shape == (4,) and not out.target.requires_grad


def test_one_pass_after_another_gives_the_same():
    both, single = (loss_of(golden_net(), golden_batch(), batched=batched) for batched in (True, False))
    assert relative_error(single.dF_dt, both.dF_dt) < 1e-4
    torch.testing.assert_close(single.weighted_loss, both.weighted_loss)


def gradient(net: nn.Module, loss: torch.Tensor) -> torch.Tensor:
    gradients = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in gradients if g is not None])


@pytest.mark.parametrize("kind", ["t2i", "c2i"])
def test_both_derivatives_give_one_gradient_direction(kind):
    net, g = golden_net(kind), golden_case(f"{kind}_forward", 0)
    batch = len(g["x"])
    t, r = torch.linspace(0.5, 0.9, batch), torch.linspace(0.1, 0.3, batch)
    sample = Sample(g["x"], draw(*g["x"].shape).float(), t, r, g["y"] if kind == "t2i" else g["label"])
    dde, jvp = (gradient(net, loss_of(net, sample, derivative=d).weighted_loss) for d in ("dde", "jvp"))
    assert torch.cosine_similarity(dde, jvp, dim=0) > 0.999


def test_both_derivatives_give_one_gradient_direction_on_the_golden_batch():
    net, sample = golden_net(), golden_batch()
    dde, jvp = (gradient(net, loss_of(net, sample, derivative=d).weighted_loss) for d in ("dde", "jvp"))
    assert torch.cosine_similarity(dde, jvp, dim=0) > 0.999


def linear_net(name: str):
    """F = t * context, whose derivative is the context."""
    return lambda x_t, c_t, c_r, context: TIME_OF_C_NOISE[name](c_t).view(-1, 1, 1, 1) * context


@pytest.mark.parametrize("name", TRANSPORTS)
def test_golden_targets_of_all_transports(name):
    g = golden_case("transports", name)
    sample = Sample(g["x"], g["z"], g["t"].flatten(), g["r"].flatten(), g["dF_dt"])
    out = loss_of(linear_net(name), sample, transport=name)
    assert_reproduces(out.dF_dt, g["dF_dt"], 1e-9)
    assert_reproduces(out.target, g["target"], 1e-9)


def test_golden_guided_target():
    g = golden_case("transports", "ot_fm_guided")
    sample = Sample(g["x"], g["z"], g["t"].flatten(), g["r"].flatten(), g["dF_dt"], g["F_cond"], g["F_uncond"])
    out = loss_of(linear_net("ot_fm"), sample, lambda x_t, c_t, c_r, context: context)
    assert_reproduces(out.target, g["target"], 1e-9)


@pytest.mark.parametrize("name", TRANSPORTS)
def test_guidance_replaces_the_instantaneous_target(name):
    """With all weight on the conditional network a diffusion row learns from it alone, on every transport."""
    path = TRANSPORTS[name]
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64) * path.T_max
    x, noise, F_cond, F_null = (draw(3, 1, 2, 2, seed=seed) for seed in range(4))
    seen = []

    def ema_net(x_t, c_t, c_r, context):
        seen.append((x_t, c_t, c_r))
        return context

    window = {"w_start": float(t[1]), "w_end": float(t[1])}  # both ends belong to it
    sample = Sample(x, noise, t, t, F_cond, F_cond, F_null)
    plain, guided = (
        loss_of(lambda x_t, *_: x_t, sample, ema, transport=name, w_gt=0.0, w_cond=1.0, **window).target
        for ema in (None, ema_net)
    )
    torch.testing.assert_close(guided[1], F_cond[1])
    assert torch.equal(guided[[0, 2]], plain[[0, 2]])
    for x_t, c_t, c_r in seen:
        torch.testing.assert_close(x_t, path.interpolate(x, noise, t)[0][1:2])
        assert torch.equal(c_t, path.c_noise(t[1:2])) and torch.equal(c_r, c_t)


class Family(nn.Module):
    """The exact transitions of Gaussian data plus theta times the state: theta = 0 is the truth."""

    def __init__(self, name: str, theta: float = 0.0):
        super().__init__()
        self.data, self.theta = GaussianData(name), nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, x_t, c_t, c_r, context, attention=None):
        return self.data.net(x_t, c_t, c_r, context) + self.theta * x_t


def times_of(name: str, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = torch.rand(n, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    path = TRANSPORTS[name]
    low = max(path.T_min, 0.1 * path.T_max)
    t, r = (low + (0.9 * path.T_max - low) * pairs).sort(dim=1, descending=True).values.T
    return t, r


@pytest.mark.parametrize("name", EXACT)
def test_minimum_is_at_the_exact_transition(name):
    """Over Gaussian data, descent in theta ends at the truth: there the slope, linear in theta, passes 0 rising."""
    data, (t, r) = GaussianData(name), times_of(name, 20000)
    x, noise = data.mean + data.std * draw(20000, 1, 1, 1), draw(20000, 1, 1, 1, seed=1)
    slopes = []
    for theta in (-0.2, 0.2):
        net = Family(name, theta)
        out = loss_of(net, Sample(x, noise, t, r, t), transport=name, cosine=False)
        slopes.append(float(torch.autograd.grad(out.denoising_loss.mean(), net.theta)[0]))
    low, high = slopes
    assert low < 0 < high
    assert abs(0.2 * (high + low) / (high - low)) < 0.02


@pytest.mark.parametrize("derivative", ["dde", "jvp"])
@pytest.mark.parametrize("name", EXACT)
def test_no_residual_at_the_exact_transition(name, derivative):
    """Given the expected data and noise of every state, the true transitions leave no loss and no gradient."""
    data, (t, r), path = GaussianData(name), times_of(name, 64), TRANSPORTS[name]
    x_t = path.interpolate(data.mean + data.std * draw(64, 2, 2, 2), draw(64, 2, 2, 2, seed=1), t)[0]
    x, noise, _ = data.expected(x_t, t.view(-1, 1, 1, 1))
    settings = {"transport": name, "derivative": derivative, "epsilon": 1e-3, "cosine": False}
    losses = []
    for theta in (0.0, 0.1):
        net = Family(name, theta)
        loss = loss_of(net, Sample(x, noise, t, r, t), **settings).denoising_loss.mean()
        losses.append((float(loss.detach()), float(torch.autograd.grad(loss, net.theta)[0])))
    (loss, slope), (wrong_loss, wrong_slope) = losses
    assert loss < 1e-8 * wrong_loss
    assert abs(slope) < 1e-4 * wrong_slope


def test_only_the_prediction_carries_a_gradient():
    """The target is a constant: d loss / d theta is that of (F_theta - target)²."""
    net, (t, r) = Family("ot_fm", 0.3), times_of("ot_fm", 8)
    x, noise = draw(8, 1, 2, 2), draw(8, 1, 2, 2, seed=1)
    out = loss_of(net, Sample(x, noise, t, r, t), cosine=False)
    x_t = TRANSPORTS["ot_fm"].interpolate(x, noise, t)[0]
    error = (net(x_t, t, r, t) - out.target).detach()
    expected = (2 * error * x_t).flatten(1).mean(dim=1)
    weight = out.time_weight / (out.denoising_loss.detach() + 1e-5)
    torch.testing.assert_close(torch.autograd.grad(out.weighted_loss, net.theta)[0], (weight * expected).mean())


@pytest.mark.parametrize("name", TRANSPORTS)
def test_time_weight(name):
    """1 in diffusion rows, finite and falling with the interval all over the range."""
    path = TRANSPORTS[name]
    t = torch.full((50,), path.T_max)
    r = torch.linspace(path.T_min, path.T_max, 50)
    weight = time_weight(path, t, r)
    assert weight.isfinite().all() and weight[-1] == 1
    assert (weight[1:-1] > weight[:-2]).all() and (weight > 0).all()


def test_cosine_term():
    """Over channels, per position: opposite vectors add 2, parallel ones nothing."""
    target = draw(2, 3, 4, 4)
    error = denoising_loss(torch.stack([-target[0], 2 * target[1]]), target, cosine=False)
    cosine = denoising_loss(torch.stack([-target[0], 2 * target[1]]), target, cosine=True) - error
    torch.testing.assert_close(cosine, torch.tensor([2.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e25])
def test_one_bad_sample_spoils_nothing(bad):
    """The other sample's gradient is what it is without the bad one, which counts in the mean."""
    theta = torch.tensor(0.5, requires_grad=True)
    x, noise = torch.ones(2, 1, 2, 2), torch.ones(2, 1, 2, 2) * 3
    x[1] = bad
    t, r = torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.2])

    def net(x_t, c_t, c_r, context):
        return theta * torch.ones_like(x_t)

    sample = Sample(x, noise, t, r, t)
    both, alone = loss_of(net, sample), loss_of(net, sample.at(torch.tensor([0])))
    assert both.denoising_loss.isfinite().all() and both.weighted_loss.isfinite()
    assert float(both.denoising_loss[1].detach()) == pytest.approx(1e5 if bad == 1e25 else 0, abs=2)
    (slope,), (expected,) = (torch.autograd.grad(out.weighted_loss, theta) for out in (both, alone))
    torch.testing.assert_close(slope, expected / 2)


def test_broken_network_shows_in_its_gradient():
    theta = torch.tensor(float("nan"), requires_grad=True)
    x, t = torch.ones(1, 1, 2, 2), torch.tensor([0.5])
    out = loss_of(lambda x_t, *_: theta * x_t, Sample(x, x + 1, t, t, t))
    assert torch.autograd.grad(out.weighted_loss, theta)[0].isnan()


def test_no_features_no_projection_loss():
    out = loss_of(golden_net(), golden_batch())
    assert out.proj_loss == 0 and not out.proj_loss.requires_grad


def test_bfloat16_autocast():
    """Under autocast the loss stays float32 and near the exact one."""
    sample, exact = golden_batch(h_target=golden("training")["h_target"]), golden_case("training", "dde")
    with torch.autocast("cpu", torch.bfloat16):
        out = loss_of(golden_net(), sample)
    assert out.weighted_loss.dtype == out.target.dtype == torch.float32
    assert float(out.proj_loss.detach()) == pytest.approx(float(exact["proj_loss"]), rel=0.05)
    assert relative_error(out.target[:1], exact["target"][:1]) < 1e-5  # a diffusion row, made without the network


def test_refusals():
    g = golden("training")
    x, noise, t, r, y = (g[name] for name in ("x", "z", "t", "r", "y"))
    with pytest.raises(ValueError, match="expected r <= t in every sample"):
        Sample(x, noise, r, t, y)
    with pytest.raises(ValueError, match=r"x and noise have shapes \(4, 4, 6, 8\) and \(4, 4, 8, 6\)"):
        Sample(x, noise.mT, t, r, y)
    with pytest.raises(ValueError, match=r"t and r have shapes \(4, 1\) and \(4,\): expected one time per sample"):
        Sample(x, noise, t[:, None], r, y)
    with pytest.raises(ValueError, match="transport 'ddpm': expected one of"):
        loss_of(golden_net(), golden_batch(), transport="ddpm")


def test_rows_of_a_sample():
    """All that a row has goes with it; what is not given stays so."""
    sample = golden_batch(null_context=golden("training")["y"] * 0, split=torch.arange(4.0))
    rows = torch.tensor([2, 0])
    for name, value in vars(sample).items():
        found = getattr(sample.at(rows), name)
        assert torch.equal(found, value[[2, 0]]) if isinstance(value, torch.Tensor) else found == value, name
