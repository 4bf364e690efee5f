"""One network behind torch.compile: no breaks, two graphs for everything that sampling varies, the same results."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from tim_model import TiM, TiMParams, make_times, sample
from tim_model.network.rope import RopeScaling

SMALL = {
    "in_channels": 3, "patch_size": 2, "hidden_size": 32, "depth": 2, "num_heads": 2, "mlp_hidden": 48,
    "adaln_hidden": 16,
}  # fmt: skip
KINDS = {"text": {"context_dim": 12}, "class": {"num_classes": 7}}
# (H, W) in cells, two to a token; tokens of the prompt; steps; guidance; RoPE
RUNS = [
    (8, 8, 16, 2, 1.0, "none"), (8, 8, 5, 3, 2.5, "none"), (12, 6, 9, 2, 2.5, "none"), (4, 6, 32, 4, 1.0, "none"),
    (16, 16, 2, 1, 2.0, "ntk"), (32, 16, 3, 2, 2.0, "yarn"),
]  # fmt: skip


class Graphs:
    """A backend that runs graphs as they are, and counts them."""

    def __init__(self):
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list) -> Callable:
        self.count += 1
        return graph.forward


@pytest.fixture(autouse=True)
def afresh():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def networks(kind: str) -> tuple[TiM, TiM, Graphs]:
    """A network, the same one compiled, and its graphs."""
    torch.manual_seed(0)
    net = TiM(TiMParams(**SMALL, **KINDS[kind])).requires_grad_(False)
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.2)
    compiled, graphs = copy.deepcopy(net), Graphs()
    compiled.compile(backend=graphs)
    return net, compiled, graphs


@pytest.mark.parametrize("kind", KINDS)
def test_two_graphs_serve_all_runs(kind):
    net, compiled, graphs = networks(kind)
    for h, w, length, steps, cfg, rope in RUNS:
        noise, context, null = torch.randn(1, 3, h, w), torch.randn(1, length, 12), torch.randn(1, length, 12)
        condition = (context, null) if kind == "text" else (torch.tensor([3]), None)
        results = [
            sample(partial(each, rope_scaling=RopeScaling(rope, 4)), noise, make_times("uniform", steps), *condition,
                   cfg=cfg, guidance_interval=(-1, 2))
            for each in (net, compiled)
        ]  # fmt: skip
        torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-4)
    assert graphs.count == 2
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_network(kind):
    """As in training: several times in a batch, texts as they are, batches of any size."""
    net, compiled, graphs = networks(kind)
    for batch in (4, 3, 6):
        x, t, labels = torch.randn(batch, 3, 8, 8), torch.rand(batch), torch.arange(batch)
        context = torch.randn(batch, 5, 12) if kind == "text" else labels
        for each in (net, compiled):
            each.requires_grad_().zero_grad()
            each(x, t, t / 2, context).square().mean().backward()
        for weight, expected in zip(compiled.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(weight.grad, expected.grad, rtol=1e-4, atol=1e-5)
    assert graphs.count == 1


def test_names_of_weights_stay():
    net, compiled, _ = networks("text")
    assert compiled.state_dict().keys() == net.state_dict().keys()
    compiled.load_state_dict(net.state_dict())
