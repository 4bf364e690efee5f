"""What a network makes of a condition, once for a run: the same as at every step, never of other weights or values."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tim_model import TiM, TiMParams
from tim_model.network.rope import RopeScaling
from tim_model.network.run import EncodedContexts, network_run
from tim_model.network.tim import EncodedText

SMALL = {
    "in_channels": 3, "patch_size": 2, "hidden_size": 16, "depth": 2, "num_heads": 2, "mlp_hidden": 24,
    "adaln_hidden": 8,
}  # fmt: skip


class Reads:
    """How often a network has encoded a text."""

    def __init__(self, net: TiM):
        self.count, self.plain = 0, net.encode_text
        net.encode_text = self

    def __call__(self, context: Tensor) -> EncodedText:
        self.count += 1
        return self.plain(context)


@pytest.fixture
def net() -> TiM:
    torch.manual_seed(0)
    return TiM(TiMParams(**SMALL, context_dim=12)).requires_grad_(False)


@pytest.fixture
def given() -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return torch.randn(2, 3, 4, 4), torch.tensor([0.9, 0.4]), torch.tensor([0.3, 0.4]), torch.randn(2, 5, 12)


@torch.no_grad()
def test_a_text_is_read_once(net, given):
    x, t, r, context = given
    scaled = partial(net, rope_scaling=RopeScaling("ntk", 1))
    reads, run, other = Reads(net), network_run(scaled), torch.randn(2, 7, 12)
    for time in (t, t / 2):
        assert torch.equal(run(x, time, r / 4, context), scaled(x, time, r / 4, context))
        assert torch.equal(run(x.mT, time, r / 4, other), scaled(x.mT, time, r / 4, other))
    assert reads.count == 2


@torch.no_grad()
def test_nothing_is_kept_of_other_values(net, given):
    x, t, r, context = given
    run = network_run(net)
    run(x, t, r, context)
    context.mul_(2)
    assert torch.equal(run(x, t, r, context), net(x, t, r, context))


CHANGES = {
    "in place": lambda net: net.blocks[1].cross_attn.kv.weight.mul_(2),
    "another layer's": lambda net: net.y_embedder.norm.bias.add_(1),
    "replaced": lambda net: setattr(net.blocks[0].cross_attn.k_norm, "weight", nn.Parameter(torch.randn(8))),
    "data": lambda net: setattr(net.y_embedder.mlp.fc2.weight, "data", torch.randn(16, 64)),
    "layer": lambda net: setattr(net.y_embedder, "norm", nn.LayerNorm(12, eps=10.0)),
}


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_nothing_is_kept_of_other_weights(net, given, change):
    x, t, r, context = given
    run = network_run(net)
    before = run(x, t, r, context)
    CHANGES[change](net)
    assert torch.equal(run(x, t, r, context), net(x, t, r, context))
    assert not torch.equal(run(x, t, r, context), before)


@torch.no_grad()
def test_the_oldest_text_goes(net):
    reads = Reads(net)
    contexts = EncodedContexts(net, most=2)
    texts = [torch.randn(1, 5, 12) for _ in range(3)]
    for text in (*texts, texts[1], texts[2]):
        contexts(text)
    assert (reads.count, len(contexts.kept)) == (3, 2)
    contexts(texts[0])
    assert reads.count == 4


def test_inference_tensors_are_kept(net, given):
    reads = Reads(net)
    with torch.inference_mode():
        contexts, text = EncodedContexts(net), given[3].clone()
        assert contexts(text) is contexts(text)
    assert reads.count == 1


def test_gradients_reach_the_text(net, given):
    """A pass with gradient keeps nothing, of which a second one would need the graph."""
    x, t, r, context = given
    context.requires_grad_()
    run = network_run(net)
    for _ in range(2):
        run(x, t, r, context).square().sum().backward()
    assert context.grad.abs().sum() > 0


@torch.no_grad()
def test_labels_are_checked_once_for_a_run(given, monkeypatch):
    net = TiM(TiMParams(**SMALL, num_classes=7))
    run, labels = network_run(net), torch.tensor([7, 0])
    x, t, r, _ = given
    assert torch.equal(run(x, t, r, labels), net(x, t, r, labels))
    monkeypatch.setattr("tim_model.network.run.check_label_values", None)
    assert torch.equal(run(x, t, r, labels), net(x, t, r, labels))
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"class labels \[8, 0\]: expected 0 to 6"):
        run(x, t, r, torch.tensor([8, 0]))


def test_other_functions_stay_as_they_are():
    assert network_run(min) is min
