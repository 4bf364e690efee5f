"""AdamW: what decays, what does not, and the published settings."""

from __future__ import annotations

import pytest
import torch

from tests.tim_model.golden import FOLDER
from tim_model import load_checkpoint
from training.optim.lora import add_lora
from training.optim.optimizer import make_optimizer, param_groups, scaled_lr


def trainable(kind: str):
    return load_checkpoint(FOLDER / f"{kind}_weights.safetensors").requires_grad_(True)


@pytest.mark.parametrize("kind", ["t2i", "c2i"])
def test_groups(kind):
    """Every parameter once; decay for matrices and the patch convolution only."""
    net = trainable(kind)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    decayed, others = ({names[id(p)] for p in group["params"]} for group in param_groups(net, 0.01))
    assert decayed | others == set(names.values()) and not decayed & others
    assert {"x_embedder.proj.weight", "blocks.0.attn.qkv.weight", "t_embedder.mlp.0.weight"} <= decayed
    assert {name for name in others if not name.endswith(("bias", "norm.weight"))} == (
        {"y_embedder.embedding_table.weight"} if kind == "c2i" else set()
    )
    assert not any("norm" in name or name.endswith("bias") for name in decayed)


def test_decay_alone():
    """Without a gradient a decayed weight shrinks by lr * decay, everything else stays."""
    net = trainable("c2i")
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = make_optimizer(net, lr=0.1, weight_decay=0.5)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = dict(net.named_parameters())
    for name in ("blocks.0.attn.qkv.weight", "final_layer.linear.weight"):
        torch.testing.assert_close(after[name].detach(), before[name] * (1 - 0.1 * 0.5))
    for name in ("blocks.0.attn.qkv.bias", "blocks.0.attn.q_norm.weight", "y_embedder.embedding_table.weight"):
        assert torch.equal(after[name], before[name])


def test_published_settings():
    optimizer = make_optimizer(trainable("t2i"))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (1e-4, (0.9, 0.95), 1e-6)
        assert group["fused"]


def test_frozen_weights_are_left_out():
    net = add_lora(trainable("t2i"), rank=4)
    optimizer = make_optimizer(net)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 48
    with pytest.raises(ValueError, match="no parameter of the network is trainable"):
        make_optimizer(trainable("t2i").requires_grad_(False))


def test_linear_scaling():
    assert scaled_lr(1e-4, 128, 512) == pytest.approx(2.5e-5)
    assert scaled_lr(1e-4, 512, 512) == 1e-4
