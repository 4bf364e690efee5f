"""The sampler: golden trajectories, exactness at any step count, guidance, stochastic steps."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from tim_model import SCHEDULES, TRANSPORTS, Step, make_times, sample
from tim_model.sampling.sampler import noisy_step

from ..gaussian import GaussianData
from ..golden import SAMPLING, assert_reproduces, golden_case, relative_error

INF = math.inf


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("case", range(len(SAMPLING)))
def test_golden_trajectory(text_net, case):
    settings, g = SAMPLING[case], golden_case("sampling", case)
    start = settings.get("T_max", 1.0)
    noises, steps = iter(g.get("noises", ())), []
    x0 = sample(
        text_net,
        g["z"],
        make_times("uniform", settings["steps"], start),
        g["y"],
        g["y_null"],
        cfg=settings["cfg"],
        guidance_interval=(start * settings.get("low", 0.0), start * settings.get("high", 1.0)),
        stochasticity=settings.get("sto", 0.0),
        velocity=settings.get("type") == "ddiffusion",
        noise_fn=lambda x: next(noises),
        callback=steps.append,
    )
    for step, expected in zip(steps, g["trajectory"][1:], strict=True):
        assert_reproduces(step.x_r, expected)
    assert torch.equal(steps[0].x_t, g["trajectory"][0]) and torch.equal(x0, steps[-1].x_r)
    assert not list(noises), "fewer stochastic steps than released"


def random_times(steps: int) -> list[float]:
    inner = torch.rand(steps - 1, generator=torch.Generator().manual_seed(steps)).sort(descending=True).values
    return [1.0, *inner.tolist(), 0.0]


ROADS = [(kind, make_times(kind, steps)) for kind in SCHEDULES for steps in (1, 2, 5, 16)]
ROADS += [("random", random_times(steps)) for steps in range(2, 17)]


@pytest.mark.parametrize(("kind", "times"), ROADS, ids=[f"{kind}-{len(times) - 1}" for kind, times in ROADS])
def test_exact_network_lands_on_the_same_picture_by_any_schedule(kind, times):
    """The point of the method: with an exact average-velocity field, x_0 does not depend on the steps."""
    data, noise = GaussianData("ot_fm"), draw(2, 3, 4, 4)
    expected = 0.4 + 0.7 * noise  # standard noise becomes data of that mean and deviation
    torch.testing.assert_close(sample(data.net, noise, times, None), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sample(data.net, noise.float(), times, None), expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 3, 16])
@pytest.mark.parametrize("transport", ["trigflow", "vp", "ve"])
def test_exact_network_lands_on_the_same_picture_by_other_transports(transport, steps):
    data, noise, path = GaussianData(transport), draw(2, 3, 4, 4), TRANSPORTS[transport]
    times = torch.linspace(path.T_max, path.T_min, steps + 1, dtype=torch.float64)
    found = sample(data.net, noise, times.tolist(), None, transport=transport)
    torch.testing.assert_close(found, data.flow(noise, times[0], times[-1]), rtol=1e-9, atol=1e-9)


def test_velocity_mode_converges_with_the_steps():
    """r = t is Euler's method on the same field: its error is not 0, and falls like 1 / steps."""
    data, noise = GaussianData("ot_fm"), draw(2, 3, 4, 4)
    errors = [
        relative_error(sample(data.net, noise, make_times("uniform", steps), None, velocity=True), 0.4 + 0.7 * noise)
        for steps in (4, 8, 16, 32, 64)
    ]
    assert errors[0] > 0.05
    assert all(0.4 < fine / coarse < 0.6 for coarse, fine in pairwise(errors))


def test_part_of_the_way():
    """Noise is the state at times[0]: image to image, and a run in two halves."""
    data, x = GaussianData("ot_fm"), draw(1, 3, 4, 4)
    half = sample(data.net, x, [0.8, 0.6, 0.35], None)
    t = torch.tensor([0.8, 0.35], dtype=torch.float64)
    torch.testing.assert_close(half, data.flow(x, t[0], t[1]))
    torch.testing.assert_close(sample(data.net, half, [0.35, 0.0], None), data.flow(x, t[0], 0 * t[0]))


class Recorder:
    """A network whose F is its context (a number), which keeps what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, r, context):
        self.calls.append((round(t[0].item(), 6), round(r[0].item(), 6), context))
        return torch.full_like(x, context)


TIMES = [1.0, 0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize(
    ("interval", "guided"),
    [
        ((0.0, 1.0), [0.75, 0.5, 0.25]),  # the default: strict ends, so that the first step is never guided
        ((-INF, INF), [1.0, 0.75, 0.5, 0.25]),
        ((0.25, 0.75), [0.5]),
        ((0.2, 0.8), [0.75, 0.5, 0.25]),
        ((0.6, 0.7), []),
    ],
)
def test_null_passes_only_inside_the_interval(interval, guided):
    net, steps = Recorder(), []
    sample(net, draw(1, 1, 2, 2), TIMES, 3.0, 1.0, cfg=2.5, guidance_interval=interval, callback=steps.append)
    assert [t for t, _, context in net.calls if context == 1.0] == guided
    assert [t for t, _, context in net.calls if context == 3.0] == TIMES[:-1]
    assert [step.F.max().item() for step in steps] == [1 + 2.5 * (3 - 1) if t in guided else 3 for t in TIMES[:-1]]


@pytest.mark.parametrize("cfg", [1.0, 0.5, 0.0])
def test_no_null_pass_without_guidance(cfg):
    net = Recorder()
    sample(net, draw(1, 1, 2, 2), TIMES, 3.0, 1.0, cfg=cfg, guidance_interval=(-INF, INF))
    assert len(net.calls) == 4


@pytest.mark.parametrize(("velocity", "expected"), [(False, TIMES[1:]), (True, TIMES[:-1])])
def test_times_that_the_network_sees(velocity, expected):
    net = Recorder()
    sample(net, draw(2, 1, 2, 2), TIMES, 3.0, velocity=velocity)
    assert [t for t, _, _ in net.calls] == TIMES[:-1]
    assert [r for _, r, _ in net.calls] == expected


def test_class_network_knows_its_null_label(class_net):
    noise, labels = draw(2, 4, 8, 8, dtype=torch.float32), torch.tensor([3, 7])
    settings = {"cfg": 2.5, "guidance_interval": (-INF, INF)}
    found = sample(class_net, noise, TIMES, labels, **settings)
    assert torch.equal(found, sample(class_net, noise, TIMES, labels, torch.tensor([10, 10]), **settings))
    assert not torch.allclose(found, sample(class_net, noise, TIMES, labels))


def test_both_passes_in_one_batch_change_nothing(text_net):
    """A TiM network gets them together, another function one after the other."""
    noise, y = draw(2, 4, 6, 8, dtype=torch.float32), draw(4, 5, 48, dtype=torch.float32)
    one, other = (sample(net, noise, TIMES, y[:2], y[2:], cfg=3.0) for net in (text_net, lambda *a: text_net(*a)))
    assert_reproduces(one, other)


def test_null_text_of_another_length(text_net):
    noise, y, null = draw(1, 4, 6, 8), draw(1, 5, 48), draw(1, 2, 48)
    steps = []
    sample(text_net, noise, [0.5, 0.0], y, null, cfg=3.0, callback=steps.append)
    t = torch.tensor([0.5])
    cond, without = (text_net(noise, t, 0 * t, context) for context in (y, null))
    torch.testing.assert_close(steps[0].F, without + 3 * (cond - without))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_state_is_never_below_float32(dtype):
    steps = []
    x0 = sample(Recorder(), draw(1, 1, 2, 2).to(dtype), TIMES, 3.0, callback=steps.append)
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert {x0.dtype, *(step.x_t.dtype for step in steps), *(step.x_r.dtype for step in steps)} == {expected}


def test_callback_follows_the_steps():
    noise, steps = draw(1, 1, 2, 2), []
    x0 = sample(Recorder(), noise, TIMES, 3.0, callback=steps.append)
    assert [(step.i, step.t, step.r) for step in steps] == [(i, TIMES[i], TIMES[i + 1]) for i in range(4)]
    assert all(isinstance(step, Step) for step in steps)
    states = [noise, *(step.x_r for step in steps)]
    assert all(torch.equal(step.x_t, states[step.i]) for step in steps)
    torch.testing.assert_close(x0, noise - 3)


def test_nothing_is_kept_for_gradients(class_net):
    noise = draw(1, 4, 8, 8, dtype=torch.float32).requires_grad_()
    assert not sample(class_net, noise, [1.0, 0.0], torch.tensor([3])).requires_grad


def test_stochastic_step_without_share_is_the_plain_one():
    x, F, noise = draw(3, 1, 2, 2, 2)
    torch.testing.assert_close(noisy_step(x, 0.6, 0.2, F, 0.0, noise), TRANSPORTS["ot_fm"].step(x, 0.6, 0.2, F))


def test_noise_is_renewed_between_the_ends_only():
    drawn = []

    def noise_fn(x):
        drawn.append(x)
        return torch.zeros_like(x)

    steps = []
    sample(Recorder(), draw(1, 1, 2, 2), TIMES, 3.0, stochasticity=0.2, noise_fn=noise_fn, callback=steps.append)
    assert [step.t for step in steps if any(x is step.x_t for x in drawn)] == [0.75, 0.5]


def test_stochastic_steps_keep_the_distribution():
    """They add noise and remove as much: the samples of an exact network stay those of the data."""
    torch.manual_seed(1)  # of the fresh noise, which must not be the first one again
    data, noise = GaussianData("ot_fm"), draw(1, 1, 150, 150)
    found = sample(data.net, noise, make_times("uniform", 200), None, stochasticity=0.5)
    assert found.mean().item() == pytest.approx(0.4, abs=0.015)
    assert found.std().item() == pytest.approx(0.7, abs=0.015)
    correlation = torch.corrcoef(torch.stack([found.flatten(), noise.flatten()]))[0, 1].item()
    assert correlation < 0.9  # without them it is 1


def test_restarts_keep_the_distribution():
    """Each jump of an exact network is a sample of the data, which fresh noise takes back to r."""
    torch.manual_seed(1)  # of the fresh noise
    data, noise = GaussianData("ot_fm"), draw(1, 1, 150, 150)

    def jump(x, t, r, context):
        return data.net(x, t, torch.zeros_like(r), context)

    found = sample(jump, noise, make_times("uniform", 4), None, redraw=True)
    assert found.mean().item() == pytest.approx(0.4, abs=0.015)
    assert found.std().item() == pytest.approx(0.7, abs=0.015)
    correlation = torch.corrcoef(torch.stack([found.flatten(), noise.flatten()]))[0, 1].item()
    assert abs(correlation) < 0.5  # without them it is 1


def test_restarts_draw_all_noise_anew():
    """Whatever the stochasticity; the last step to 0 draws none."""
    steps, drawn = [], []

    def noise_fn(x):
        drawn.append(torch.full_like(x, 3.0))
        return drawn[-1]

    options = {"stochasticity": 0.5, "redraw": True, "noise_fn": noise_fn, "callback": steps.append}
    sample(Recorder(), draw(1, 1, 2, 2), TIMES, 3.0, **options)
    for step in steps:
        picture = step.x_t - step.t * step.F
        torch.testing.assert_close(step.x_r, (1 - step.r) * picture + step.r * 3.0)
    assert len(drawn) == len(steps) - 1


@pytest.mark.parametrize("restart", [0.3, 1.0])
def test_shares_of_restarts_keep_the_distribution(restart):
    """Whatever the share, an exact network's state at r is one of the data's at r."""
    torch.manual_seed(1)  # of the fresh noise
    data, noise = GaussianData("ot_fm"), draw(1, 1, 150, 150)
    found = sample(data.net, noise, make_times("uniform", 40), None, restart=restart)
    assert found.mean().item() == pytest.approx(0.4, abs=0.015)
    assert found.std().item() == pytest.approx(0.7, abs=0.015)
    correlation = torch.corrcoef(torch.stack([found.flatten(), noise.flatten()]))[0, 1].item()
    assert abs(correlation) < 0.9  # without them it is 1


def test_no_restart_is_the_transition_bit_for_bit():
    data, noise = GaussianData("ot_fm"), draw(1, 1, 8, 8)
    plain = sample(data.net, noise, TIMES, None)
    assert torch.equal(sample(data.net, noise, TIMES, None, restart=0.0), plain)
    assert torch.equal(sample(data.net, noise, [1.0, 0.0], None, restart=0.7), sample(data.net, noise, [1, 0], None))


def test_restarts_tell_the_network_where_they_go():
    targets, steps = [], []

    def net(x, t, r, context):
        targets.append(float(r[0]))
        return 0.1 * x

    sample(net, draw(1, 1, 2, 2), [1.0, 0.8, 0.4, 0.0], None, restart=0.25, callback=steps.append)
    assert targets == pytest.approx([0.6, 0.3, 0.0])
    assert [(step.t, step.r) for step in steps] == [(1.0, 0.8), (0.8, 0.4), (0.4, 0.0)]


@pytest.mark.parametrize(
    ("times", "options", "message"),
    [
        ([1.0], {}, "expected at least two"),
        ([0.0, 1.0], {}, "strictly decreasing"),
        ([1.0, 0.5, 0.5, 0.0], {}, "fall from 0.5 to 0.5"),
        ([1.2, 0.0], {}, "run from 1.2 to 0: expected numbers between 1 and 0"),
        ([1.0, -0.1], {}, "run from 1 to -0.1"),
        ([1.0, 0.5], {"transport": "ddpm"}, "transport 'ddpm'"),
        ([80.0, 0.0], {"transport": "edm"}, "times end at 0: edm expects them to end at 0.01 or above"),
        ([100.0, 0.0], {"transport": "ve"}, "0.02 or above"),
        ([1.0, 0.0], {"stochasticity": 0.2, "transport": "vp"}, "stochasticity=0.2 on vp"),
        ([1.0, 0.0], {"stochasticity": -0.2}, "stochasticity=-0.2"),
        ([1.0, 0.0], {"restart": 1.2}, "restart=1.2: expected a number from 0 to 1"),
        ([1.0, 0.0], {"restart": 0.5, "transport": "vp"}, "restarts on vp: expected ot_fm"),
        ([1.0, 0.0], {"restart": 0.5, "stochasticity": 0.2}, "restart=0.5 with stochasticity=0.2"),
        ([1.0, 0.0], {"redraw": True, "transport": "vp"}, "restarts on vp: expected ot_fm"),
        ([1.0, 0.5, 0.0], {"cfg": 2.5}, "cfg=2.5 needs null_context"),
    ],
)
def test_refusals(times, options, message):
    with pytest.raises(ValueError) as error:
        sample(Recorder(), draw(1, 1, 2, 2), times, 3.0, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_null_context_is_not_needed_where_no_step_is_guided():
    sample(Recorder(), draw(1, 1, 2, 2), [1.0, 0.0], 3.0, cfg=2.5)  # t = 1 lies outside (0, 1)
