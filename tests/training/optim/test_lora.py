"""LoRA: nothing at the start, merged weights equal the adapter, names that the host reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.tim_model.golden import FOLDER, assert_reproduces, golden_case
from tim_model import TiM, load_checkpoint
from tim_model.sampling.transport import get_transport
from training.config.schema import ModelConfig, ObjectiveConfig
from training.objectives.derivative import configured_derivative, total_derivative
from training.objectives.sample import Sample
from training.optim.lora import (
    LoRALinear,
    add_lora,
    configured_lora,
    draw_dropout,
    lora_layers,
    lora_state_dict,
    merge_lora,
)
from training.optim.optimizer import make_optimizer

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


@pytest.mark.parametrize(
    ("group", "layers"),
    [
        ("attention", 6), ("cross_attention", 9), ("mlp", 9), ("modulation", 12), ("times", 7), ("text", 3),
        ("output", 1), ("all", 47),
    ],
)  # fmt: skip
def test_groups_of_layers(group, layers):
    """Together they are all linear layers, the REPA head aside."""
    assert len(lora_layers(add_lora(fresh("t2i"), 2, targets=[group]))) == layers


def test_updates_stay_in_float32_on_a_base_in_bfloat16():
    net = add_lora(fresh("c2i").bfloat16(), rank=2)
    updates = {name: value.dtype for name, value in net.named_parameters() if value.requires_grad}
    assert set(updates.values()) == {torch.float32}


# ---------------------------------------------------------------------- dropout


def with_dropout(kind: str = "t2i", step: int = 3, dropout: float = 0.3) -> TiM:
    """A trained network whose updates do not see some features in that step."""
    net = trained(kind, dropout=dropout).train()
    draw_dropout(net, seed=1, step=step)
    return net


def dropped_by_hand(net: TiM, kind: str) -> TiM:
    """The plain network with W + alpha / rank * B (A where features are kept, 0 elsewhere)."""
    plain = fresh(kind)
    for name, module in net.named_modules():
        if isinstance(module, LoRALinear):
            update = module.lora_B.weight @ (module.lora_A.weight * module.kept)
            plain.get_submodule(name).weight += module.alpha / module.rank * update
    return plain


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("derivative", ["dde", "jvp"])
def test_all_passes_of_a_step_drop_the_same(derivative, batched):
    """dF/dt is that of one fixed network; other features in each pass would add their difference over 2 epsilon."""
    net, g = with_dropout(), golden_case("t2i_forward", 0)
    x, t = g["x"], torch.full((len(g["x"]),), 0.6)
    r = torch.where(torch.arange(len(x)) == 0, t, 0.2)  # the first row is left out of the derivative
    bound = configured_derivative(ObjectiveConfig(derivative=derivative, batched=batched))
    arguments = get_transport("ot_fm"), Sample(x, torch.ones_like(x), t, r, g["y"]), bound
    found, expected = total_derivative(net, *arguments), total_derivative(dropped_by_hand(net, "t2i"), *arguments)
    assert expected.abs().max() > 1e-2
    assert (found - expected).abs().max() <= 2e-3 * expected.abs().max()  # rounding, over 2 epsilon
    assert_reproduces(net(*inputs("t2i")), dropped_by_hand(net, "t2i")(*inputs("t2i")))


def kept(net: TiM) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.named_buffers() if name.endswith("kept")}


def test_dropout_is_a_function_of_seed_step_and_layer():
    first, again, later = (kept(with_dropout(step=step)) for step in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], later[name]) for name in first)
    assert len({tuple(value.tolist()) for name, value in first.items() if "fc1" in name}) == 6  # layers differ


def test_dropout_keeps_the_mean():
    """A share of 1 - p of the features, scaled by 1 / (1 - p)."""
    net = add_lora(fresh("t2i"), rank=2, dropout=0.25)
    values = []
    for step in range(40):
        draw_dropout(net, seed=0, step=step)
        values.append(torch.cat(list(kept(net).values())))
    values = torch.stack(values)
    torch.testing.assert_close(values.unique(), torch.tensor([0, 4 / 3]))
    assert values.mean() == pytest.approx(1.0, abs=0.02)


def test_nothing_is_dropped_where_nothing_is_trained():
    net = with_dropout()
    dropping = net(*inputs("t2i"))
    merged = fresh("t2i")
    merged.load_state_dict(merge_lora(merged.state_dict(), lora_state_dict(net)))
    assert_reproduces(net.eval()(*inputs("t2i")), merged(*inputs("t2i")))
    assert not torch.allclose(dropping, net(*inputs("t2i")))


# ---------------------------------------------------------------------- files to go on from


def write_file(path: Path, net: TiM, style: str = "diffusion_model.") -> str:
    state = lora_state_dict(net)
    save_file({style + name.removeprefix("diffusion_model."): value for name, value in state.items()}, path)
    return str(path)


def settings(**options) -> ModelConfig:
    return ModelConfig(checkpoint="base.safetensors", **options)


@pytest.mark.parametrize("style", ["diffusion_model.", "base_model.model.", "transformer.", ""])
def test_starts_from_a_file(tmp_path, style):
    net = trained("c2i", alpha=6.0, targets=["mlp", "final_layer.linear"])
    again = configured_lora(fresh("c2i"), settings(lora=write_file(tmp_path / "l.safetensors", net, style)))
    assert torch.equal(again(*inputs("c2i")), net(*inputs("c2i")))
    assert lora_layers(again) == lora_layers(net)
    trainable = {name for name, p in again.named_parameters() if p.requires_grad}
    assert trainable and all(".lora_" in name for name in trainable)


def test_what_the_config_tells_must_agree_with_the_file(tmp_path):
    net = trained("c2i", alpha=6.0, targets=["mlp"])
    file = write_file(tmp_path / "lora.safetensors", net)
    agreeing = settings(lora=file, lora_rank=4, lora_alpha=6.0, lora_targets=["mlp"])
    assert lora_layers(configured_lora(fresh("c2i"), agreeing)) == lora_layers(net)
    for options, says in (
        ({"lora_rank": 8}, r"lora.safetensors: has rank 4, but model.lora_rank=8 is set"),
        ({"lora_alpha": 16.0}, "has alpha 6, but model.lora_alpha=16 is set"),
        ({"lora_targets": ["mlp", "attention"]}, "has no update of blocks.0.attn.qkv, which is set"),
        ({"lora_targets": ["attention"]}, "has an update of blocks.0.mlp.fc1_g, expected linear layers within"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            configured_lora(fresh("c2i"), settings(lora=file, **options))


def test_files_that_training_cannot_go_on_from(tmp_path):
    file = write_file(tmp_path / "lora.safetensors", trained("t2i"))
    with pytest.raises(ValueError, match="LoRA of diffusion_model.blocks.0.cross_attn.kv: .* has no such layer"):
        configured_lora(fresh("c2i"), settings(lora=file))
    A, B = torch.ones(2, 4), torch.ones(6, 2)
    text = {"lora_te_layers_0_mlp_up_proj.lora_A.weight": A, "lora_te_layers_0_mlp_up_proj.lora_B.weight": B}
    save_file({**text, **lora_state_dict(trained("c2i"))}, tmp_path / "both.safetensors")
    with pytest.raises(ValueError, match="has updates for 1 layers of a text encoder, which training would lose"):
        configured_lora(fresh("c2i"), settings(lora=str(tmp_path / "both.safetensors")))
    conv = {"x_embedder.proj.lora_A.weight": torch.ones(2, *fresh("c2i").x_embedder.proj.weight.shape[1:])}
    save_file({**conv, "x_embedder.proj.lora_B.weight": torch.ones(64, 2, 1, 1)}, tmp_path / "conv.safetensors")
    with pytest.raises(ValueError, match="has an update of x_embedder.proj, expected linear layers"):
        configured_lora(fresh("c2i"), settings(lora=str(tmp_path / "conv.safetensors")))
