"""Optimizers by name: what their first steps must be, and a line for a library that is missing."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn

from training.config.schema import OptimizerConfig
from training.optim.named import LIBRARIES, check_library, configured_optimizer, describe_optimizer, moment_bytes
from training.optim.optimizer import make_optimizer

NAMES = ["adamw", *LIBRARIES]


def network() -> nn.Module:
    """Matrices of 64x80 and 80x3, and biases; not a function of the processor."""
    net = nn.Sequential(nn.Linear(80, 64), nn.Linear(3, 80))
    for parameter in net.parameters():
        parameter.data = torch.linspace(-1, 1, parameter.numel()).view(parameter.shape)
    return net


def give_gradients(net: nn.Module, step: int = 0) -> None:
    for k, parameter in enumerate(net.parameters()):
        parameter.grad = torch.cos(torch.arange(parameter.numel()) + k + step).view(parameter.shape)


def installed(name: str) -> None:
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name], exc_type=ImportError)


def test_adamw_is_that_of_before():
    nets = network(), network()
    config = OptimizerConfig(lr=0.01, betas=[0.8, 0.9], weight_decay=0.2, eps=1e-5)
    optimizers = configured_optimizer(nets[0], config), make_optimizer(nets[1], 0.01, (0.8, 0.9), 0.2, 1e-5)
    for step in range(3):
        for net, optimizer in zip(nets, optimizers, strict=True):
            give_gradients(net, step)
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_matrices_decay_and_biases_do_not(name):
    """Without a gradient a matrix shrinks by the rate times the decay; prodigy does not move without an estimate."""
    installed(name)
    net = network()
    before = [parameter.detach().clone() for parameter in net.parameters()]
    optimizer = configured_optimizer(net, OptimizerConfig(name=name, lr=0.1, weight_decay=0.5))
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    kept = 1 if name == "prodigy" else 1 - 0.1 * 0.5
    for old, new in zip(before, net.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old * (kept if old.ndim > 1 else 1))


def test_adafactor_takes_the_rate_as_it_is():
    """Factored moments are exact for a gradient of rank 1: the first step is lr * sign, whatever the weights."""
    net = nn.Linear(5, 4, bias=False)
    before = net.weight.detach().clone()
    optimizer = configured_optimizer(net, OptimizerConfig(name="adafactor", lr=0.02, weight_decay=0.0))
    gradient = torch.outer(torch.tensor([1.0, -2, 3, 0.5]), torch.tensor([0.1, -4, 2, 1, -1]))
    net.weight.grad = gradient.clone()
    optimizer.step()
    torch.testing.assert_close(net.weight.detach(), before - 0.02 * gradient.sign())


def distance(name: str, lr: float, steps: int) -> float:
    """How far from its minimum, at distance 10, a quadratic bowl is left after some steps."""
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(10.0)
    optimizer = configured_optimizer(net, OptimizerConfig(name=name, lr=lr, weight_decay=0.0, betas=[0.9, 0.99]))
    for _ in range(steps):
        optimizer.zero_grad()
        net.weight.square().sum().backward()
        optimizer.step()
    return abs(float(net.weight.detach()))


def test_prodigy_finds_its_rate():
    """A factor of 1 leads to the minimum, where AdamW at its usual rate has hardly moved."""
    installed("prodigy")
    assert distance("prodigy", 1.0, 300) < 1
    assert distance("adamw", 1e-4, 300) > 9.9


def test_moments_of_8_bits():
    installed("adamw8bit")
    net = network()
    optimizer = configured_optimizer(net, OptimizerConfig(name="adamw8bit"))
    give_gradients(net)
    optimizer.step()
    assert optimizer.state[net[0].weight]["state1"].dtype == torch.uint8


@pytest.mark.parametrize("name", NAMES)
def test_counted_memory_is_that_of_the_moments(name):
    """All but counters, and what the 8 bits of a block share."""
    installed(name)
    net = network()
    optimizer = configured_optimizer(net, OptimizerConfig(name=name))
    give_gradients(net)
    optimizer.step()
    total = sum(v.nbytes for state in optimizer.state.values() for k, v in state.items() if is_moment(k, v))
    assert moment_bytes(name, net.parameters()) == total


def is_moment(key: str, value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and not key.startswith(("qmap", "absmax"))


@pytest.mark.parametrize("name", LIBRARIES)
def test_missing_library_is_a_line_with_its_name(monkeypatch, name):
    library = LIBRARIES[name]
    for module in [key for key in sys.modules if key == library or key.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=rf"^optimizer\.name={name}: {library} .*: pip install {library}$"):
        check_library(OptimizerConfig(name=name))
    with pytest.raises(ValueError, match=f"pip install {library}"):
        configured_optimizer(network(), OptimizerConfig(name=name))


def test_adamw_needs_no_library(monkeypatch):
    for library in LIBRARIES.values():
        monkeypatch.setitem(sys.modules, library, None)
    check_library(OptimizerConfig())


def test_what_is_printed():
    config = OptimizerConfig(lr=2e-4, schedule="polynomial", power=2, num_cycles=3, warmup=10)
    assert describe_optimizer(config, 500) == [
        "optimizer: adamw, lr 0.0002, weight decay 0.01, betas 0.9 and 0.95, eps 1e-06, gradients clipped to 1",
        "schedule: polynomial of power 2 in 3 cycles over 500 steps, after 10 of warm-up",
    ]
    assert describe_optimizer(OptimizerConfig(name="adafactor"), 5) == [
        "optimizer: adafactor, lr 0.0001, weight decay 0.01, its own eps, no betas, gradients clipped to 1",
        "schedule: constant over 5 steps",
    ]
    notes = [describe_optimizer(OptimizerConfig(name="prodigy", lr=lr), 5)[2:] for lr in (1e-4, 1.0)]
    assert notes == [["note: prodigy multiplies the rate that it finds with optimizer.lr=0.0001: 1 is usual"], []]
