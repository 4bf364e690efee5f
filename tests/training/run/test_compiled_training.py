"""run.compile: training passes behind torch.compile, in one graph with gradient and one without."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tim_model import TiM, TiMParams
from tim_model.network.compiled import compiled_trunk
from training.config.schema import RunConfig
from training.run.learner import prepare_net


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_are_those_of_the_network(monkeypatch, checkpointing, autocast):
    graphs = []

    def trunk_with_graphs(trunk, backend):
        return compiled_trunk(trunk, lambda graph, inputs: graphs.append(graph) or graph.forward)

    monkeypatch.setattr("tim_model.network.tim.compiled_trunk", trunk_with_graphs)
    torch._dynamo.reset()
    torch.manual_seed(0)
    sizes = {"in_channels": 3, "patch_size": 2, "hidden_size": 32, "depth": 2, "num_heads": 2, "mlp_hidden": 48}
    net = TiM(TiMParams(**sizes, adaln_hidden=16, context_dim=12))
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.2)
    compiled = copy.deepcopy(net)
    prepare_net(compiled, RunConfig(gradient_checkpointing=checkpointing, compile=True))
    for batch in (4, 6):
        x, t, context = torch.randn(batch, 3, 8, 8), torch.rand(batch), torch.randn(batch, 5, 12)
        for each in (net, compiled):
            each.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                with torch.no_grad():  # as for the target
                    each(x, t, t / 2, context)
                each(x, t, t / 2, context).square().mean().backward()
        for weight, expected in zip(compiled.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(weight.grad, expected.grad, rtol=1e-3, atol=1e-4)
    assert len(graphs) == 2
