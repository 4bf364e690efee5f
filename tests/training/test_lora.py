"""LoRA: nothing at the start, merged weights equal the adapter, names that the host reads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.tim_model.golden import FOLDER, assert_reproduces, golden_case
from tim_model import TiM, load_checkpoint
from training.lora import LoRALinear, add_lora, lora_state_dict, merge_lora
from training.optimizer import make_optimizer

KINDS = ["t2i", "c2i"]


def fresh(kind: str) -> TiM:
    return load_checkpoint(FOLDER / f"{kind}_weights.safetensors")


def inputs(kind: str) -> tuple[Tensor, ...]:
    g = golden_case(f"{kind}_forward", 0)
    return g["x"], g["t"], g["r"], g["y"] if kind == "t2i" else g["label"]


def trained(kind: str, **options) -> TiM:
    """A network whose LoRA has done two steps towards an output of 1."""
    torch.manual_seed(0)
    net = add_lora(fresh(kind), **{"rank": 4, **options})
    optimizer = make_optimizer(net, lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        (net(*inputs(kind)) - 1).square().mean().backward()
        optimizer.step()
    return net.requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
def test_starts_as_the_network_it_is_put_on(kind):
    net = fresh(kind)
    expected = net(*inputs(kind))
    assert torch.equal(add_lora(net, rank=4)(*inputs(kind)), expected)


@pytest.mark.parametrize("alpha", [None, 1.0, 16.0])
@pytest.mark.parametrize("kind", KINDS)
def test_merged_weights_equal_the_adapter(kind, alpha):
    base, net = fresh(kind), trained(kind, alpha=alpha)
    expected = net(*inputs(kind))
    assert float((expected - base(*inputs(kind))).abs().max()) > 1e-3, "the LoRA has no effect"
    merged = merge_lora(base.state_dict(), lora_state_dict(net))
    plain = fresh(kind)
    plain.load_state_dict(merged)
    assert_reproduces(plain(*inputs(kind)), expected)


def test_merging_leaves_the_base_alone():
    base, lora = fresh("c2i").state_dict(), lora_state_dict(trained("c2i"))
    before = {name: value.clone() for name, value in base.items()}
    merged = merge_lora(base, lora)
    assert all(torch.equal(base[name], before[name]) for name in before)
    changed = {name for name in base if not torch.equal(merged[name], base[name])}
    assert changed == {key.removeprefix("diffusion_model.").replace("lora_A.", "") for key in lora if "lora_A" in key}


@pytest.mark.parametrize(("kind", "layers"), [("t2i", 24), ("c2i", 15)])
def test_names_and_shapes_of_the_host(kind, layers):
    state = lora_state_dict(add_lora(fresh(kind), rank=4, alpha=8.0))
    assert len(state) == 3 * layers
    qkv = "diffusion_model.blocks.0.attn.qkv"
    assert state[f"{qkv}.lora_A.weight"].shape == (4, 64)
    assert state[f"{qkv}.lora_B.weight"].shape == (192, 4)
    assert state[f"{qkv}.alpha"].item() == 8.0
    assert ("diffusion_model.blocks.2.cross_attn.kv.alpha" in state) == (kind == "t2i")


def test_trains_the_updates_alone():
    net = add_lora(fresh("t2i").requires_grad_(True), rank=4)
    net(*inputs("t2i")).square().mean().backward()
    trainable = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trainable == {name for name, p in net.named_parameters() if p.grad is not None}
    assert all(".lora_" in name for name in trainable) and len(trainable) == 48


def test_keeps_the_names_and_weights_of_the_network():
    base, net = fresh("t2i").state_dict(), trained("t2i")
    state = net.state_dict()
    assert all(torch.equal(state[name], base[name]) for name in base)
    again = add_lora(fresh("t2i"), rank=4)
    again.load_state_dict(state)
    assert torch.equal(again(*inputs("t2i")), net(*inputs("t2i")))


def test_chosen_layers():
    net = add_lora(fresh("t2i"), rank=2, targets=["blocks.[01].attn.qkv", "final_layer.linear"])
    found = [name for name, module in net.named_modules() if isinstance(module, LoRALinear)]
    assert found == ["blocks.0.attn.qkv", "blocks.1.attn.qkv", "final_layer.linear"]


def test_refusals():
    with pytest.raises(ValueError, match="rank=0: expected a whole number from 1"):
        add_lora(fresh("c2i"), rank=0)
    with pytest.raises(ValueError, match=r"LoRA targets \['blocks.\*.attn.q'\]: no linear layer"):
        add_lora(fresh("c2i"), rank=2, targets=["blocks.*.attn.q", "blocks.*.attn.qkv"])
    with pytest.raises(ValueError, match="no linear layer of this network has such a name"):
        add_lora(fresh("c2i"), rank=2, targets=["blocks.*.cross_attn.q"])
    lora = lora_state_dict(add_lora(fresh("t2i"), rank=2))
    with pytest.raises(ValueError, match=r"LoRA of diffusion_model.blocks.0.cross_attn.q: .* has no such layer"):
        merge_lora(fresh("c2i").state_dict(), lora)
    smaller = {name: value[..., :32] for name, value in fresh("t2i").state_dict().items()}
    with pytest.raises(ValueError, match=r"expected a weight \(192, 64\), the network has \(192, 32\)"):
        merge_lora(smaller, lora)
