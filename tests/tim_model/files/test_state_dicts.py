"""State dicts as other programs wrap them."""

from __future__ import annotations

import logging

import pytest
import torch
from safetensors.torch import save_file

from tim_model import load_checkpoint
from tim_model.files.errors import CheckpointError
from tim_model.files.state_dicts import dequantize, strip_prefix, unwrap
from tim_model.files.tensor_files import read_state_dict

from ..broken_files import SCALED, TINY, fp8, tiny_weights

WEIGHTS = {"a.weight": torch.randn(3, 4), "a.bias": torch.randn(3).half(), "b": torch.randn(2).bfloat16()}
OTHERS = {name: value + 1 for name, value in WEIGHTS.items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(found[name].dtype == expected[name].dtype for name in found)
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize(
    "prefix",
    ["model.diffusion_model.", "diffusion_model.", "module.", "net.", "_orig_mod.", "module.model.diffusion_model."],
)
def test_prefixes_are_dropped(tmp_path, prefix):
    path = tmp_path / "model.safetensors"
    save_file({prefix + name: value for name, value in WEIGHTS.items()}, path)
    assert_same(read_state_dict(path)[0], WEIGHTS)


def test_prefix_of_some_names_only_stays():
    names = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert strip_prefix(names) is names
    assert strip_prefix({}) == {}


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": WEIGHTS, "epoch": 3, "loss": 0.5},
        {"ema": WEIGHTS},
        {"model": {"module." + name: value for name, value in WEIGHTS.items()}},
        {"ema": {"net": WEIGHTS, "updates": 7}},
        {"state_dict": {"net." + name: value for name, value in WEIGHTS.items()}},
    ],
    ids=["state_dict", "ema", "model", "ema of a network", "state_dict of a wrapper"],
)
def test_containers_are_opened(tmp_path, caplog, content):
    torch.save(content, tmp_path / "model.pt")
    assert_same(read_state_dict(tmp_path / "model.pt")[0], WEIGHTS)
    assert not caplog.records


def test_averaged_weights_are_preferred_and_it_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        assert_same(unwrap({"model": OTHERS, "ema": WEIGHTS, "step": 5}), WEIGHTS)
    (record,) = caplog.records
    assert record.getMessage() == "the file holds ema and model: the weights under ema are read"


@pytest.mark.parametrize("content", [{"weights": WEIGHTS}, {"state_dict": [1]}, {1: torch.ones(2)}])
def test_other_contents_are_refused(content):
    with pytest.raises(CheckpointError, match="holds the entries .*, expected a flat state dict"):
        unwrap(content)


def test_scaled_8_bit_weights_load_as_what_they_stand_for(tmp_path):
    weights = tiny_weights()
    save_file(fp8(weights), tmp_path / "model.safetensors")
    net = load_checkpoint(tmp_path / "model.safetensors")
    assert net.params == TINY
    found = net.state_dict()
    assert all(torch.equal(found[name], value) for name, value in weights.items() if name != f"{SCALED}.weight")
    # three bits behind the point: half of 1/8 of each number, and of the step near 0
    weight, scale = weights[f"{SCALED}.weight"], weights[f"{SCALED}.weight"].abs().max() / 448
    error = (found[f"{SCALED}.weight"] - weight).abs()
    assert bool((error <= weight.abs() / 15 + scale * 2**-9).all())


def test_each_row_may_have_its_own_scale():
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    scales = torch.tensor([[0.5], [8.0]])
    quantized = {"a.weight": (weight / scales).to(torch.float8_e4m3fn), "a.weight_scale": scales}
    assert_same(dequantize(quantized), {"a.weight": weight.bfloat16()})


def test_8_bit_weights_without_scales_stay():
    weights = {"a.weight": torch.ones(2, 2).to(torch.float8_e4m3fn), "b.scale_weight": torch.ones(1)}
    assert dequantize(weights) is weights
