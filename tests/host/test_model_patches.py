"""Nodes that change the network from outside do on TiM what they do on the host's own transformers, or say so."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.host.graphs import (
    EVERY_STEP,
    MODEL_FILE,
    SEED,
    assert_close,
    ksampler,
    labels,
    node,
    patched,
    reference,
    run_latent,
    run_patched,
    shown,
)
from tim_model import TiM, load_checkpoint, make_times, sample
from tim_model.sampling.noise import draw_noise

TIMES = make_times("uniform", 4)
FIELD = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def net() -> TiM:
    return load_checkpoint(MODEL_FILE)


@pytest.fixture(scope="module")
def noise() -> Tensor:
    return draw_noise((1, 3, 32, 32), SEED)


def guided_by(net: FIELD, rule: Callable[..., Tensor], noise: Tensor, times: list[float] = TIMES) -> Tensor:
    """Sample where `rule` makes the guided F of the arguments of the network and its F with and without a class."""

    def field(x: Tensor, t: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return rule(x, t, r, y, net(x, t, r, y), net(x, t, r, torch.full_like(y, 10)))

    return sample(field, noise, times, labels(noise))


@pytest.mark.parametrize("renorm", [0.0, 0.9])
def test_renorm_cfg(host, net, noise, renorm):
    """The guided picture, shrunk to `renorm` times the norm of the picture without guidance where it is above."""

    def rule(x: Tensor, t: Tensor, r: Tensor, y: Tensor, F: Tensor, F_null: Tensor) -> Tensor:
        unguided, picture = x - t * F, x - t * (F_null + 2.5 * (F - F_null))
        if renorm:
            picture = picture * min(1.0, float(renorm * unguided.norm() / picture.norm()))
        return (x - picture) / t

    found = run_patched(host, "RenormCFG", cfg_trunc=100.0, renorm_cfg=renorm)
    assert_close(found, guided_by(net, rule, noise))
    unchanged = reference(net, noise, TIMES, guidance_interval=EVERY_STEP)
    assert (found - unchanged).abs().max() > 0.01 or renorm == 0


class Skip(nn.Module):
    """A block that does nothing."""

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        return x


def without_blocks(net: TiM, *skipped: int) -> TiM:
    shorter = copy.deepcopy(net)
    for i in skipped:
        shorter.blocks[i] = Skip()
    return shorter


def test_skip_layer_guidance(host, net, noise):
    """Guided once more, away from what the network without two of its blocks says."""
    shorter = without_blocks(net, 2, 3)

    def rule(x: Tensor, t: Tensor, r: Tensor, y: Tensor, F: Tensor, F_null: Tensor) -> Tensor:
        return F_null + 2.5 * (F - F_null) + 0.7 * (F - shorter(x, t, r, y))

    layers = {"double_layers": "2, 3", "single_layers": "", "start_percent": 0.0, "end_percent": 1.0}
    found = run_patched(host, "SkipLayerGuidanceDiT", scale=0.7, rescaling_scale=0.0, **layers)
    assert_close(found, guided_by(net, rule, noise))
    assert (found - reference(net, noise, TIMES, guidance_interval=EVERY_STEP)).abs().max() > 0.05
    assert "double_block 2" not in host.log


def test_simple_skip_layer_guidance(host, net, noise):
    """The negative alone goes through the network without the blocks."""
    shorter = without_blocks(net, 1)

    def rule(x: Tensor, t: Tensor, r: Tensor, y: Tensor, F: Tensor, F_null: Tensor) -> Tensor:
        F_null = shorter(x, t, r, torch.full_like(y, 10))
        return F_null + 2.5 * (F - F_null)

    layers = {"double_layers": "1", "single_layers": "", "start_percent": 0.0, "end_percent": 1.0}
    assert_close(run_patched(host, "SkipLayerGuidanceDiTSimple", **layers), guided_by(net, rule, noise))


class ScaledBlock(nn.Module):
    """A block that gets a multiple of the tokens."""

    def __init__(self, block: nn.Module, factor: float):
        super().__init__()
        self.block, self.factor = block, factor

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        return self.block(self.factor * x, *rest)


class OwnToken(nn.Module):
    """Self-attention in which every token sees itself alone."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, delta: Tensor, *rest: Tensor) -> Tensor:
        qkv = self.attention.qkv(x) + self.attention.qkv_d(delta)
        return self.attention.proj(qkv.chunk(3, dim=-1)[2])


def scale_blocks(net: TiM) -> None:
    net.blocks = nn.ModuleList(ScaledBlock(block, 0.9) for block in net.blocks)


def cut_attention(net: TiM) -> None:
    net.blocks[4].attn = OwnToken(net.blocks[4].attn)


BY_OTHER_PACKS = {"TestScaledBlocks": (0.9, scale_blocks), "TestAttentionOfBlock": (4.0, cut_attention)}


@pytest.mark.parametrize("class_type", BY_OTHER_PACKS)
def test_changes_by_other_packs(host, net, noise, class_type):
    value, change = BY_OTHER_PACKS[class_type]
    changed = copy.deepcopy(net)
    change(changed)
    found = run_patched(host, class_type, value=value)
    assert_close(found, reference(changed, noise, TIMES, guidance_interval=EVERY_STEP))
    assert (found - reference(net, noise, TIMES, guidance_interval=EVERY_STEP)).abs().max() > 0.05


def test_wrapper_by_another_pack(host, net, noise):
    def field(x: Tensor, t: Tensor, r: Tensor, y: Tensor) -> Tensor:
        return 0.9 * net(x, t, r, y)

    found = run_patched(host, "TestScaledOutput", {"cfg": 1.0}, value=0.9)
    assert_close(found, sample(field, noise, TIMES, labels(noise)))


NO_EFFECT = {  # node: its inputs, and what the line names
    "PerturbedAttentionGuidance": ({"scale": 3.0}, "attn1 of middle blocks"),
    "TomePatchModel": ({"ratio": 0.3}, "attn1_output_patch, attn1_patch"),
    "PatchModelAddDownscale": (
        {"block_number": 3, "downscale_factor": 2.0, "start_percent": 0.0, "end_percent": 0.35,
         "downscale_after_skip": True, "downscale_method": "bicubic", "upscale_method": "bicubic"},
        "input_block_patch_after_skip, output_block_patch",
    ),
    "ScaleROPE": (
        {f"{name}_{axis}": value for axis in "xyt" for name, value in (("scale", 2.0), ("shift", 0.0))},
        "rope_options",
    ),
    "SkipLayerGuidanceDiT": (
        {"double_layers": "6", "single_layers": "0", "scale": 3.0, "start_percent": 0.0, "end_percent": 1.0,
         "rescaling_scale": 0.0},
        "double_block 6, single_block 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("class_type", NO_EFFECT)
def test_changes_without_effect_are_told_once(host, net, noise, class_type):
    inputs, named = NO_EFFECT[class_type]
    told = (
        f"a node changes parts of the network that this TiM model does not have, without effect: {named}; its blocks "
        "are double_block 0 to 5"
    )
    graph = {**patched(class_type, **inputs), "sample": ksampler(model=["patched", 0])}
    graph["saved"] = node("SaveLatent", samples=["sample", 0], filename_prefix="told")
    printed = len(host.log)
    assert shown(host, graph) == [("sample", told)]
    assert host.log[printed:].count(told) == 1
    again = {**graph, "sample": ksampler(model=["patched", 0], seed=SEED + 1)}
    assert shown(host, again) == [("sample", told)]
    found = run_latent(host, graph)
    assert_close(found, reference(net, noise, TIMES, guidance_interval=EVERY_STEP))
