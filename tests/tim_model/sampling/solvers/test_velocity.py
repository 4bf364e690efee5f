from __future__ import annotations

import pytest
import torch

from tim_model import sample
from tim_model.sampling.solvers.steps import euler
from tim_model.sampling.solvers.velocity import velocity_of

NOISE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
TIMES = [1.0, 0.7, 0.3, 0.0]


@pytest.mark.parametrize("cfg", [1.0, 2.5])
@pytest.mark.parametrize("interval", [(float("-inf"), float("inf")), (0.0, 1.0), (0.0, 0.5)])
def test_euler_over_it_is_the_sampler_in_velocity_mode(class_net, cfg, interval):
    labels = torch.tensor([1, 2])
    expected = sample(class_net, NOISE, TIMES, labels, cfg=cfg, guidance_interval=interval, velocity=True)
    with torch.no_grad():
        found = euler(velocity_of(class_net, labels, cfg=cfg, guidance_interval=interval), NOISE, TIMES)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_gradients_reach_state_and_time(class_net):
    x = NOISE.clone().requires_grad_()
    t = torch.tensor(0.5, requires_grad=True)
    velocity_of(class_net, torch.tensor([1, 2]), cfg=2.0)(x, t).square().sum().backward()
    assert x.grad.abs().sum() > 0 and t.grad.abs() > 0
