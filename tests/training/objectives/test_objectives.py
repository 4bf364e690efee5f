"""The five objectives: one signature, their targets, and the truth as the fixed point of each."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import get_args

import pytest
import torch

from tests.tim_model.gaussian import GaussianData
from tests.tim_model.golden import FOLDER, golden
from tests.training.losses import loss_of
from tim_model import TRANSPORTS, load_checkpoint
from training.config.schema import ObjectiveConfig, ObjectiveName
from training.objectives.derivative import dde
from training.objectives.objectives import make_objective, split_meanflow, tim
from training.objectives.sample import Sample

OT_FM, DATA = TRANSPORTS["ot_fm"], GaussianData("ot_fm")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def golden_net():
    return load_checkpoint(FOLDER / "t2i_weights.safetensors").requires_grad_(True)


def golden_batch(**more: torch.Tensor) -> Sample:
    g = golden("training")
    return Sample(g["x"], g["z"], g["t"], g["r"], g["y"], **more)


def truth(x_t, c_t, c_r, context, attention=None):
    """Average velocities of Gaussian data, and the velocity itself in rows with r = t."""
    t, r = c_t.view(-1, 1, 1, 1), c_r.view(-1, 1, 1, 1)
    F = DATA.F(x_t, t, torch.where(t == r, t - 1, r))
    return torch.where(t == r, DATA.expected(x_t, t)[2], F)


def gaussian_batch() -> Sample:
    """With the data and noise to expect at every state; the first two rows are diffusion rows."""
    pairs = torch.rand(32, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.9 + 0.05
    t, r = pairs.sort(dim=1, descending=True).values.T
    r = torch.cat([t[:2], r[2:]])
    x_t = OT_FM.interpolate(DATA.mean + DATA.std * draw(32, 2, 2, 2), draw(32, 2, 2, 2, seed=1), t)[0]
    x, noise, _ = DATA.expected(x_t, t.view(-1, 1, 1, 1))
    return Sample(x, noise, t, r, t)


def x_t_of(sample: Sample) -> torch.Tensor:
    return OT_FM.interpolate(sample.x, sample.noise, sample.t)[0]


@pytest.mark.parametrize("name", get_args(ObjectiveName))
def test_one_signature(name):
    """Every objective trains the same network from the same record."""
    net, g = golden_net(), golden("training")
    conditioning = {"full_context": g["y"], "null_context": torch.zeros_like(g["y"])}
    sample = golden_batch(**conditioning, h_target=g["h_target"], split=torch.tensor([0.5, 0.1, 0.9, 0.3]))
    out = loss_of(net, sample, golden_net().requires_grad_(False), name=name)
    (out.weighted_loss + out.proj_loss).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert out.denoising_loss.shape == out.time_weight.shape == (4,)
    assert out.target.shape == out.dF_dt.shape == sample.x.shape and not out.target.requires_grad


@pytest.mark.parametrize("name", get_args(ObjectiveName))
def test_the_pass_with_gradient_alone_goes_through_the_wrapper(name):
    """It joins the processes, which need not make the same number of other passes."""
    calls = {"net": [], "wrapped": []}

    def network(kind: str):
        def net(x_t, c_t, c_r, context, attention=None):
            calls[kind].append(torch.is_grad_enabled())
            return truth(x_t, c_t, c_r, context)

        return net

    objective = make_objective(ObjectiveConfig(name=name))
    out = objective(network("net"), OT_FM, gaussian_batch(), wrapped=network("wrapped"))
    assert calls["wrapped"] == [True] and not any(calls["net"])
    assert torch.equal(out.denoising_loss, loss_of(truth, gaussian_batch(), name=name).denoising_loss)


@pytest.mark.parametrize("name", get_args(ObjectiveName))
def test_truth_is_the_fixed_point(name):
    """At the exact average velocities (or velocities) nothing is left to learn; elsewhere there is."""
    sample, settings = gaussian_batch(), {"name": name, "derivative": "jvp"}
    out = loss_of(truth, sample, **settings)
    wrong = loss_of(lambda *inputs, **options: 1.1 * truth(*inputs, **options), sample, **settings)
    assert out.denoising_loss.max() < 1e-12
    assert wrong.denoising_loss.mean() > 1e-5


@pytest.mark.parametrize("name", ["meanflow", "modular_meanflow", "split_meanflow"])
def test_average_velocity_is_the_target(name):
    sample = gaussian_batch()
    target = loss_of(truth, sample, name=name).target
    torch.testing.assert_close(target, truth(x_t_of(sample), sample.t, sample.r, None), rtol=1e-7, atol=1e-7)


def test_split_anywhere():
    """The truth composes for every place of s, and for states off the mean as well."""
    sample = gaussian_batch()
    x, t, r = sample.x + draw(*sample.x.shape, seed=5), sample.t, sample.r
    sample = replace(sample, x=x, split=torch.linspace(0.02, 0.98, len(t)))
    target = split_meanflow(truth, OT_FM, sample).target
    torch.testing.assert_close(target[2:], truth(x_t_of(sample), t, r, t)[2:], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(target[:2], (sample.noise - x)[:2])


def test_split_uses_two_passes_without_gradient():
    calls = []

    def net(x_t, c_t, c_r, context):
        calls.append((torch.is_grad_enabled(), c_t.tolist(), c_r.tolist()))
        return x_t

    t, r = torch.tensor([0.5, 0.8]), torch.tensor([0.5, 0.4])
    x = torch.ones(2, 1, 2, 2)
    split_meanflow(net, OT_FM, Sample(x, x, t, r, t, split=torch.tensor([0.5, 0.25])))
    no_grad = [(pytest.approx(c_t), pytest.approx(c_r)) for grad, c_t, c_r in calls if not grad]
    assert no_grad == [([0.8], [0.5]), ([0.5], [0.4])]
    assert [grad for grad, _, _ in calls] == [False, False, True] and calls[-1][1:] == (t.tolist(), r.tolist())


def test_split_guides_velocities_alone():
    """Only rows with r = t have a guided target, each with its own condition; the others are made of the network."""
    sample = gaussian_batch()
    condition = torch.arange(32.0, dtype=torch.float64).view(32, 1, 1, 1).expand_as(sample.x)
    sample = replace(sample, full_context=condition, null_context=torch.zeros_like(condition))
    seen = []

    def ema(x_t, c_t, c_r, context):
        seen.append(c_t)
        return context

    plain = loss_of(truth, sample, name="split_meanflow").target
    guided = loss_of(truth, sample, ema, name="split_meanflow", w_start=0.0, w_end=1.0).target
    assert [c_t.tolist() for c_t in seen] == [sample.t[:2].tolist()] * 2
    torch.testing.assert_close(guided[:2], plain[:2] + 0.75 * condition[:2])
    assert torch.equal(guided[2:], plain[2:])


@pytest.mark.parametrize("cfg", [1.0, 2.5])
def test_split_learns_velocities_of_a_teacher(cfg):
    """Rows with r = t, guided; a row whose condition was dropped learns the velocity without one."""
    sample = gaussian_batch()
    condition = torch.arange(32.0, dtype=torch.float64).view(32, 1, 1, 1).expand_as(sample.x).clone()
    condition[1] = -1
    sample = replace(sample, context=condition, null_context=torch.full_like(condition, -1))
    grads = []

    def teacher(x_t, c_t, c_r, context):
        assert torch.equal(c_t, c_r) and len(x_t) == 2
        grads.append(torch.is_grad_enabled())
        return context

    config = ObjectiveConfig(name="split_meanflow", teacher="flow.safetensors", teacher_cfg=cfg)
    target = make_objective(config, teacher=teacher)(truth, OT_FM, sample).target
    torch.testing.assert_close(target[0], torch.full_like(target[0], -1 + cfg))
    torch.testing.assert_close(target[1], torch.full_like(target[1], -1.0))
    torch.testing.assert_close(target[2:], loss_of(truth, sample, name="split_meanflow").target[2:])
    assert not any(grads) and len(grads) == (1 if cfg == 1 else 2)


def test_flow_matching_is_the_velocity_alone():
    """Whatever r is drawn, the network is given r = t and one pass; the loss is the plain mean squared error."""
    calls = []

    def net(x_t, c_t, c_r, context):
        calls.append((c_t, c_r))
        return 0 * x_t

    sample = gaussian_batch()
    velocity = sample.noise - sample.x
    out = loss_of(net, sample, name="flow_matching")
    assert len(calls) == 1 and torch.equal(*calls[0])
    torch.testing.assert_close(out.target, velocity)
    torch.testing.assert_close(out.weighted_loss, velocity.square().mean())


def test_meanflow_shares_the_target_of_tim():
    tim = loss_of(golden_net(), golden_batch(), derivative="jvp")
    meanflow = loss_of(golden_net(), golden_batch(), name="meanflow")
    assert torch.equal(meanflow.target, tim.target)
    assert (meanflow.denoising_loss < tim.denoising_loss).all()  # no cosine term


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_adaptive_weight(power):
    """Squared error over its own power: gradients shrink where the error is large."""
    x = golden_batch().x
    out = loss_of(golden_net(), golden_batch(), name="meanflow", power=power)
    squared = out.denoising_loss * x[0].numel()
    torch.testing.assert_close(out.weighted_loss, (squared / (squared + 1e-3) ** power).mean())
    (slopes,) = torch.autograd.grad(out.weighted_loss, out.denoising_loss)
    torch.testing.assert_close(slopes, x[0].numel() / (squared + 1e-3) ** power / len(x))  # the divisor is a constant


def test_tim_takes_its_settings():
    derivative = partial(dde, epsilon=0.01, batched=False)
    expected = tim(golden_net(), TRANSPORTS["trigflow"], golden_batch(), derivative, cosine=False)
    settings = {"transport": "trigflow", "epsilon": 0.01, "batched": False, "cosine": False}
    out = loss_of(golden_net(), golden_batch(), **settings)
    assert torch.equal(out.weighted_loss, expected.weighted_loss)
    for name in ("transport", "epsilon", "cosine"):
        others = {key: kept for key, kept in settings.items() if key != name}
        assert not torch.equal(loss_of(golden_net(), golden_batch(), **others).denoising_loss, out.denoising_loss), name


def test_refusals():
    with pytest.raises(ValueError, match="split_meanflow on vp: expected transport ot_fm"):
        split_meanflow(golden_net(), TRANSPORTS["vp"], golden_batch())
    with pytest.raises(ValueError, match="modular_meanflow on vp: expected transport ot_fm"):
        loss_of(golden_net(), golden_batch(), name="modular_meanflow", transport="vp")
    with pytest.raises(ValueError, match="power=-1: expected a number from 0"):
        ObjectiveConfig(power=-1)
    with pytest.raises(ValueError, match="epsilon=0: expected a time difference above 0"):
        ObjectiveConfig(epsilon=0)
