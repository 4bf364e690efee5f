"""The four objectives: one signature, their targets, and the truth as the fixed point of each."""

from __future__ import annotations

import pytest
import torch

from tests.tim_model.gaussian import GaussianData
from tests.tim_model.golden import FOLDER, golden
from tim_model import TRANSPORTS, load_checkpoint
from training.derivative import mix
from training.loss import Guidance, transition_loss
from training.objectives import OBJECTIVES, ObjectiveSettings

DATA = GaussianData("ot_fm")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def golden_net():
    return load_checkpoint(FOLDER / "t2i_weights.safetensors").requires_grad_(True)


def golden_batch() -> tuple[torch.Tensor, ...]:
    g = golden("training")
    return g["x"], g["z"], g["t"], g["r"], g["y"]


def truth(x_t, c_t, c_r, context, attention=None):
    """Average velocities of Gaussian data, and the velocity itself in rows with r = t."""
    t, r = c_t.view(-1, 1, 1, 1), c_r.view(-1, 1, 1, 1)
    F = DATA.F(x_t, t, torch.where(t == r, t - 1, r))
    return torch.where(t == r, DATA.expected(x_t, t)[2], F)


def gaussian_batch() -> tuple[torch.Tensor, ...]:
    """x, noise, t, r with the data and noise to expect at every state; the first two rows are diffusion rows."""
    pairs = torch.rand(32, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.9 + 0.05
    t, r = pairs.sort(dim=1, descending=True).values.T
    r = torch.cat([t[:2], r[2:]])
    x_t = mix(TRANSPORTS["ot_fm"], DATA.mean + DATA.std * draw(32, 2, 2, 2), draw(32, 2, 2, 2, seed=1), t)[0]
    x, noise, _ = DATA.expected(x_t, t.view(-1, 1, 1, 1))
    return x, noise, t, r


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_signature(name):
    """Every objective trains the same network from the same arguments."""
    net, g = golden_net(), golden("training")
    x, noise, t, r, y = golden_batch()
    guidance = Guidance(golden_net().requires_grad_(False), y, torch.zeros_like(y))
    split = torch.tensor([0.5, 0.1, 0.9, 0.3])
    out = OBJECTIVES[name](net, x, noise, t, r, y, ObjectiveSettings(), g["h_target"], guidance, split)
    (out.weighted_loss + out.proj_loss).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert out.denoising_loss.shape == out.time_weight.shape == (4,)
    assert out.target.shape == out.dF_dt.shape == x.shape and not out.target.requires_grad


@pytest.mark.parametrize("name", OBJECTIVES)
def test_truth_is_the_fixed_point(name):
    """At the exact average velocities (or velocities) nothing is left to learn; elsewhere there is."""
    x, noise, t, r = gaussian_batch()
    settings = ObjectiveSettings(derivative="jvp")
    out = OBJECTIVES[name](truth, x, noise, t, r, t, settings)
    wrong = OBJECTIVES[name](lambda *inputs, **options: 1.1 * truth(*inputs, **options), x, noise, t, r, t, settings)
    assert out.denoising_loss.max() < 1e-12
    assert wrong.denoising_loss.mean() > 1e-5


@pytest.mark.parametrize("name", ["meanflow", "split_meanflow"])
def test_average_velocity_is_the_target(name):
    x, noise, t, r = gaussian_batch()
    x_t = mix(TRANSPORTS["ot_fm"], x, noise, t)[0]
    target = OBJECTIVES[name](truth, x, noise, t, r, t).target
    torch.testing.assert_close(target, truth(x_t, t, r, t), rtol=1e-7, atol=1e-7)


def test_split_anywhere():
    """The truth composes for every place of s, and for states off the mean as well."""
    x, noise, t, r = gaussian_batch()
    x = x + draw(*x.shape, seed=5)
    x_t = mix(TRANSPORTS["ot_fm"], x, noise, t)[0]
    split = torch.linspace(0.02, 0.98, len(t))
    target = OBJECTIVES["split_meanflow"](truth, x, noise, t, r, t, split=split).target
    torch.testing.assert_close(target[2:], truth(x_t, t, r, t)[2:], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(target[:2], (noise - x)[:2])


def test_split_uses_two_passes_without_gradient():
    calls = []

    def net(x_t, c_t, c_r, context):
        calls.append((torch.is_grad_enabled(), c_t.tolist(), c_r.tolist()))
        return x_t

    t, r = torch.tensor([0.5, 0.8]), torch.tensor([0.5, 0.4])
    x = torch.ones(2, 1, 2, 2)
    OBJECTIVES["split_meanflow"](net, x, x, t, r, t, split=torch.tensor([0.5, 0.25]))
    no_grad = [(pytest.approx(c_t), pytest.approx(c_r)) for grad, c_t, c_r in calls if not grad]
    assert no_grad == [([0.8], [0.5]), ([0.5], [0.4])]
    assert [grad for grad, _, _ in calls] == [False, False, True] and calls[-1][1:] == (t.tolist(), r.tolist())


def test_split_guides_velocities_alone():
    """Only rows with r = t have a guided target, each with its own condition; the others are made of the network."""
    x, noise, t, r = gaussian_batch()
    condition = torch.arange(32.0, dtype=torch.float64).view(32, 1, 1, 1).expand_as(x)
    seen = []

    def ema(x_t, c_t, c_r, context):
        seen.append(c_t)
        return context

    settings, split = ObjectiveSettings(), torch.full_like(t, 0.5)
    guidance = Guidance(ema, condition, torch.zeros_like(x), w_start=0.0, w_end=1.0)
    plain = OBJECTIVES["split_meanflow"](truth, x, noise, t, r, t, settings, split=split).target
    guided = OBJECTIVES["split_meanflow"](truth, x, noise, t, r, t, settings, guidance=guidance, split=split).target
    assert [c_t.tolist() for c_t in seen] == [t[:2].tolist()] * 2
    torch.testing.assert_close(guided[:2], plain[:2] + 0.75 * condition[:2])
    assert torch.equal(guided[2:], plain[2:])


def test_flow_matching_is_the_velocity_alone():
    """Whatever r is drawn, the network is given r = t and one pass; the loss is the plain mean squared error."""
    calls = []

    def net(x_t, c_t, c_r, context):
        calls.append((c_t, c_r))
        return 0 * x_t

    x, noise, t, r = gaussian_batch()
    out = OBJECTIVES["flow_matching"](net, x, noise, t, r, t)
    assert len(calls) == 1 and torch.equal(*calls[0])
    torch.testing.assert_close(out.target, noise - x)
    torch.testing.assert_close(out.weighted_loss, (noise - x).square().mean())


def test_meanflow_shares_the_target_of_tim():
    tim = transition_loss(golden_net(), *golden_batch(), derivative="jvp")
    meanflow = OBJECTIVES["meanflow"](golden_net(), *golden_batch())
    assert torch.equal(meanflow.target, tim.target)
    assert (meanflow.denoising_loss < tim.denoising_loss).all()  # no cosine term


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_adaptive_weight(power):
    """Squared error over its own power: gradients shrink where the error is large."""
    x, noise, t, r, y = golden_batch()
    out = OBJECTIVES["meanflow"](golden_net(), x, noise, t, r, y, ObjectiveSettings(power=power))
    squared = out.denoising_loss * x[0].numel()
    torch.testing.assert_close(out.weighted_loss, (squared / (squared + 1e-3) ** power).mean())
    (slopes,) = torch.autograd.grad(out.weighted_loss, out.denoising_loss)
    torch.testing.assert_close(slopes, x[0].numel() / (squared + 1e-3) ** power / len(x))  # the divisor is a constant


def test_tim_takes_its_settings():
    expected = transition_loss(golden_net(), *golden_batch(), "trigflow", "dde", 0.01, False)
    settings = ObjectiveSettings("trigflow", "dde", 0.01, batched=True, cosine=False)
    out = OBJECTIVES["tim"](golden_net(), *golden_batch(), settings)
    assert torch.equal(out.weighted_loss, expected.weighted_loss)


def test_refusals():
    with pytest.raises(ValueError, match="split_meanflow on vp: expected transport ot_fm"):
        OBJECTIVES["split_meanflow"](golden_net(), *golden_batch(), ObjectiveSettings("vp"))
    with pytest.raises(ValueError, match="power=-1: expected a number from 0"):
        ObjectiveSettings(power=-1)
    with pytest.raises(ValueError, match="epsilon=0: expected a time difference above 0"):
        ObjectiveSettings(epsilon=0)
