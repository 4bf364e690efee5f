"""VAE files compute as in diffusers, with or without a config; broken ones are refused in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tim_model.files.tensor_files import CheckpointError
from tim_model.vae.autoencoder import load_vae
from tim_model.vae.files import WEIGHTS, read_vae

diffusers = pytest.importorskip("diffusers")

RES, VIT = "ResBlock", "EfficientViTBlock"
F32C32 = {  # small, with the stages of the published one
    "encoder_block_types": (RES, RES, RES, VIT, VIT, VIT),
    "decoder_block_types": (RES, RES, RES, VIT, VIT, VIT),
    "encoder_block_out_channels": (8, 8, 16, 16, 32, 32),
    "decoder_block_out_channels": (8, 8, 16, 16, 32, 32),
    "encoder_layers_per_block": (1, 1, 1, 1, 1, 2),
    "decoder_layers_per_block": (1, 1, 1, 2, 1, 1),
    "attention_head_dim": 16,
    "downsample_block_type": "conv",
    "upsample_block_type": "interpolate",
    "scaling_factor": 0.41407,
}
F16C16 = {
    "latent_channels": 16,
    "encoder_block_types": (RES, RES, VIT, RES, VIT),
    "decoder_block_types": RES,
    "encoder_block_out_channels": (8, 16, 16, 16, 32),
    "decoder_block_out_channels": (8, 16, 16, 16, 32),
    "encoder_layers_per_block": (1, 2, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1, 1),
    "encoder_qkv_multiscales": ((), (), (3,), (), (3, 5)),
    "decoder_qkv_multiscales": ((),) * 5,
    "attention_head_dim": 8,
    "downsample_block_type": "pixel_unshuffle",
    "upsample_block_type": "pixel_shuffle",
    "scaling_factor": 1.0,
}
KL = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (32, 32, 64, 64),
    "layers_per_block": 1,
}
MODELS = {
    "f32c32": ("AutoencoderDC", F32C32),
    "f16c16": ("AutoencoderDC", F16C16),
    "kl": ("AutoencoderKL", KL),
}


def make_model(kind: str, **changes):
    """A random VAE of diffusers in which every weight matters."""
    class_name, config = MODELS[kind]
    torch.manual_seed(0)
    model = getattr(diffusers, class_name)(**config | changes).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    return model


def own_encode(model, images: torch.Tensor) -> torch.Tensor:
    output = model.encode(images)
    return (output.latent if hasattr(output, "latent") else output.latent_dist.mode()) * model.config.scaling_factor


def assert_computes_as(vae, model) -> None:
    images = torch.rand(2, 3, 2 * vae.ratio, 3 * vae.ratio) * 2 - 1
    latents = own_encode(model, images)
    assert latents.shape == (2, vae.channels, 2, 3)
    torch.testing.assert_close(vae.encode(images), latents, atol=1e-5, rtol=1e-5)
    own = model.decode(latents / model.config.scaling_factor).sample
    torch.testing.assert_close(vae.decode(latents), own, atol=1e-5, rtol=1e-5)


@pytest.fixture
def single_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes tensors to a lone file, with no config.json beside it."""

    def write(tensors: dict, **metadata: object) -> Path:
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
        save_file(tensors, tmp_path / "vae.safetensors", texts)
        return tmp_path / "vae.safetensors"

    return write


@pytest.mark.parametrize(
    ("kind", "changes", "size"),
    [
        ("f32c32", {}, (32, 32, 0.41407)),
        ("f32c32", {"scaling_factor": 0.5}, (32, 32, 0.5)),
        ("f32c32", {"encoder_out_shortcut": False, "decoder_conv_act_fn": "silu"}, (32, 32, 0.41407)),
        ("f32c32", {"decoder_norm_types": (*["batch_norm"] * 3, *["rms_norm"] * 3)}, (32, 32, 0.41407)),
        ("f16c16", {}, (16, 16, 1.0)),
        ("kl", {"norm_num_groups": 8}, (8, 4, 0.18215)),
    ],
)
def test_folder_of_diffusers(kind, changes, size, tmp_path):
    model = make_model(kind, **changes)
    model.save_pretrained(tmp_path)
    vae = load_vae(tmp_path)
    assert (vae.ratio, vae.channels, vae.scaling_factor) == size
    assert_computes_as(vae, model)
    assert_computes_as(load_vae(tmp_path / WEIGHTS), model)


@pytest.mark.parametrize("kind", MODELS)
def test_single_file_without_config(kind, single_file):
    model = make_model(kind)
    file = read_vae(single_file(model.state_dict()))
    told = {name: value for name, value in model.config.items() if name in file.config}
    assert file.class_name == MODELS[kind][0]
    assert {**file.config, "decoder_block_types": None} == {**told, "decoder_block_types": None}
    assert len(file.config) >= 11
    assert_computes_as(load_vae(single_file(model.state_dict())), model)


def test_metadata_tells_what_shapes_do_not(single_file):
    model = make_model("f16c16", decoder_act_fns="relu", scaling_factor=0.25)
    path = single_file(model.state_dict(), config={"decoder_act_fns": "relu", "scaling_factor": 0.25})
    path.with_name("config.json").write_text('{"_class_name": "AutoencoderKL", "scaling_factor": 9}')
    assert_computes_as(load_vae(path), model)


def test_config_json_of_something_else_is_left_alone(single_file):
    model = make_model("f16c16")
    path = single_file(model.state_dict())
    path.with_name("config.json").write_text('{"model_type": "gemma3_text", "scaling_factor": 9}')
    assert_computes_as(load_vae(path), model)


def test_attention_names_of_2022(single_file):
    model = make_model("kl")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = model.state_dict()
    for new_name, old_name in old.items():
        for name in [name for name in tensors if f".{new_name}." in name]:
            tensors[name.replace(new_name, old_name)] = tensors.pop(name)
    assert "decoder.mid_block.attentions.0.proj_attn.bias" in tensors
    assert_computes_as(load_vae(single_file(tensors)), model)


@pytest.mark.parametrize("wanted", [None, torch.float32])
def test_dtype(wanted, single_file):
    model = make_model("f16c16").bfloat16()
    vae = load_vae(single_file(model.state_dict()), dtype=wanted)
    assert {p.dtype for p in vae.model.parameters()} == {vae.dtype} == {wanted or torch.bfloat16}
    assert vae.device == torch.device("cpu")
    latents = vae.encode(torch.zeros(1, 3, 32, 32))
    assert latents.dtype == vae.decode(latents).dtype == torch.float32


def test_weights_are_frozen(single_file):
    vae = load_vae(single_file(make_model("f16c16").state_dict()))
    assert not vae.model.training
    assert not any(p.requires_grad for p in vae.model.parameters())
    assert not vae.encode(torch.zeros(1, 3, 16, 16, requires_grad=True)).requires_grad


def test_inputs_that_do_not_fit(single_file):
    vae = load_vae(single_file(make_model("f16c16").state_dict()))
    with pytest.raises(ValueError, match="40x64 pixels: expected multiples of 16 .* 32x64$"):
        vae.encode(torch.zeros(1, 3, 64, 40))
    with pytest.raises(ValueError, match="8x16 pixels: expected multiples of 16 .* 16x16$"):
        vae.encode(torch.zeros(1, 3, 16, 8))
    with pytest.raises(ValueError, match=r"\(1, 4, 64, 64\), expected \(B, 3, H, W\)"):
        vae.encode(torch.zeros(1, 4, 64, 64))
    with pytest.raises(ValueError, match=r"\(1, 32, 2, 2\), expected \(B, 16, h, w\)"):
        vae.decode(torch.zeros(1, 32, 2, 2))


def test_missing_diffusers_is_named(single_file, monkeypatch):
    path = single_file(make_model("f16c16").state_dict())
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(
        ValueError, match=r'pip install "comfyui-tim\[standalone\]" or pip install -U diffusers'
    ) as refusal:
        load_vae(path)
    assert "\n" not in str(refusal.value)
    assert read_vae(path).config["latent_channels"] == 16


def changed(name: str, value: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """The weights of a small VAE with one tensor replaced, added or (None) lost."""
    tensors = {**make_model("f16c16").state_dict(), name: value}
    return {name: value for name, value in tensors.items() if value is not None}


CONV = "encoder.conv_out.weight"
TENSORS = {
    "another model": (
        {"x_embedder.proj.weight": torch.zeros(8, 4, 2, 2)},
        r"is no VAE .* \(x_embedder.proj.weight\)",
    ),
    "latent diffusion's layout": (
        {
            "decoder.conv_in.weight": torch.zeros(4, 4, 3, 3),
            "encoder.down.0.block.0.conv1.weight": torch.zeros(4),
        },
        "is no VAE in diffusers' layout: found 2 tensors",
    ),
    "missing": (changed(CONV, None), f"lacks 1 of [0-9]+ tensors: {CONV}"),
    "unexpected": (changed("encoder.extra", torch.zeros(1)), "1 tensors too many: encoder.extra"),
    "wrong shape": (
        changed(CONV, torch.zeros(16, 32, 1, 1)),
        r"has shape \(16, 32, 1, 1\), expected \(16, 32, 3, 3\)",
    ),
    "not finite": (
        changed(CONV, torch.full((16, 32, 3, 3), torch.nan)),
        f"{CONV} holds NaN or infinite weights",
    ),
    "integers": (changed(CONV, torch.zeros(16, 32, 3, 3).to(torch.int8)), f"{CONV} has dtype torch.int8"),
    "unknown latents": (
        make_model("f16c16", latent_channels=8).state_dict(),
        "8 latent channels .* scaling_factor None",
    ),
}
CONFIGS = {
    "no JSON": ("{", "config.json beside it is no JSON"),
    "another class": (
        {"_class_name": "AutoencoderKL"},
        "holds an AutoencoderDC, but its config is of AutoencoderKL",
    ),
    "other widths": ({"encoder_block_out_channels": [8, 16, 16, 32, 32]}, r"has shape \(.*, expected \("),
    "fewer layers": (
        {"decoder_layers_per_block": [1, 1, 1, 1, 2]},
        "lacks [0-9]+ of [0-9]+ tensors: decoder.up_blocks",
    ),
    "no scale": ({"scaling_factor": "big"}, "scaling_factor 'big', expected a positive number"),
    "shift": ({"shift_factor": 0.1}, "has shift_factor=0.1, expected latents that are only scaled"),
    "nonsense": ({"encoder_block_types": 5}, "has a config that makes no AutoencoderDC"),
}


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as refusal:
        load_vae(path)
    text = str(refusal.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    assert "mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers (or stabilityai/sd-vae-ft-ema)" in text


@pytest.mark.parametrize("case", TENSORS)
def test_wrong_tensors_are_refused(case, single_file):
    tensors, message = TENSORS[case]
    assert_refused(single_file(tensors), message)


@pytest.mark.parametrize("case", CONFIGS)
def test_wrong_config_is_refused(case, single_file):
    told, message = CONFIGS[case]
    path = single_file(make_model("f16c16").state_dict())
    text = told if isinstance(told, str) else json.dumps({"_class_name": "AutoencoderDC"} | told)
    path.with_name("config.json").write_text(text)
    assert_refused(path, message)


def test_incomplete_files_are_refused(tmp_path):
    assert_refused(tmp_path, f"the folder holds nothing, expected {WEIGHTS} and config.json")
    make_model("f16c16").save_pretrained(tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    assert_refused(tmp_path, "is no whole safetensors file .* download it again")
    (tmp_path / WEIGHTS).unlink()
    assert_refused(tmp_path, f"the folder holds config.json, expected {WEIGHTS}")
    assert_refused(tmp_path / "absent.safetensors", "no such file")
