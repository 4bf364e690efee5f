"""The architecture of a DC-AE is read from names and shapes, for diffusers and for ComfyUI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tim_model.files.tensor_files import CheckpointError
from tim_model.vae.dcae import host_dcae_config, infer_dcae_config

AutoencoderDC = pytest.importorskip("diffusers").AutoencoderDC

RES, VIT = "ResBlock", "EfficientViTBlock"
SANA_1_1 = {  # as published
    "in_channels": 3,
    "latent_channels": 32,
    "attention_head_dim": 32,
    "encoder_block_types": (RES, RES, RES, VIT, VIT, VIT),
    "decoder_block_types": (RES, RES, RES, VIT, VIT, VIT),
    "encoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "decoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
    "decoder_layers_per_block": (3, 3, 3, 3, 3, 3),
    "encoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
    "decoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
    "downsample_block_type": "conv",
    "upsample_block_type": "interpolate",
    "decoder_norm_types": "rms_norm",
    "decoder_act_fns": "silu",
    "scaling_factor": 0.41407,
}
SMALL = SANA_1_1 | {  # ratio 32
    "encoder_block_out_channels": (8, 16, 16, 32, 32, 64),
    "decoder_block_out_channels": (8, 16, 16, 32, 32, 64),
    "encoder_layers_per_block": (1, 1, 1, 1, 1, 2),
    "decoder_layers_per_block": (1, 1, 2, 1, 1, 1),
    "attention_head_dim": 16,
}
LEAN = SANA_1_1 | {  # ratio 16, everything else than sana-1.1
    "latent_channels": 16,
    "attention_head_dim": 8,
    "encoder_block_types": (RES, RES, VIT, RES, VIT),
    "decoder_block_types": (VIT, RES, RES, VIT, VIT),
    "encoder_block_out_channels": (16, 16, 16, 32, 32),
    "decoder_block_out_channels": (16, 8, 16, 16, 32),
    "encoder_layers_per_block": (2, 1, 1, 3, 1),
    "decoder_layers_per_block": (1, 2, 3, 1, 2),
    "encoder_qkv_multiscales": ((), (), (3, 5), (), ()),
    "decoder_qkv_multiscales": ((5,), (), (), (), (3,)),
    "downsample_block_type": "pixel_unshuffle",
    "upsample_block_type": "pixel_shuffle",
    "scaling_factor": 1.0,
}
MIX = SANA_1_1 | {  # like dc-ae-f32c32-mix-1.0: its first stage is empty
    "encoder_block_out_channels": (256, 256, 512, 512, 1024, 1024),  # the first number has no effect there
    "decoder_block_out_channels": (256, 256, 512, 512, 1024, 1024),
    "encoder_layers_per_block": (0, 4, 8, 2, 2, 2),
    "decoder_layers_per_block": (0, 5, 10, 2, 2, 2),
    "encoder_block_types": (RES, RES, RES, VIT, VIT, VIT),
    "encoder_qkv_multiscales": ((),) * 6,
    "decoder_qkv_multiscales": ((),) * 6,
    "downsample_block_type": "pixel_unshuffle",
    "upsample_block_type": "pixel_shuffle",
}
RES_ONLY = SMALL | {
    "encoder_block_types": (RES,) * 6,
    "decoder_block_types": (RES,) * 6,
    "encoder_qkv_multiscales": ((),) * 6,
    "decoder_qkv_multiscales": ((),) * 6,
    "attention_head_dim": 32,
}
HOST_RUN = """
import json, sys
from pathlib import Path
host, folder, config = sys.argv[1:]
sys.path.insert(0, host)
sys.argv[1:] = []
import comfy.cli_args
comfy.cli_args.args.cpu = True
import torch
from comfy.ldm.ace.vae.autoencoder_dc import AutoencoderDC
from safetensors.torch import load_file, save_file
model = AutoencoderDC(**json.loads(config))
model.load_state_dict(load_file(Path(folder) / "weights.safetensors"), strict=True)
inputs = load_file(Path(folder) / "inputs.safetensors")
with torch.no_grad():
    outputs = {name: getattr(model, name.split(".")[0])(x).contiguous() for name, x in inputs.items()}
save_file(outputs, Path(folder) / "outputs.safetensors")
"""


def shapes_of(config: dict) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = AutoencoderDC(**config)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def random_dcae(config: dict, seed: int = 0) -> AutoencoderDC:
    torch.manual_seed(seed)
    model = AutoencoderDC(**config).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)  # norms have no influence as they start
    return model


@pytest.mark.parametrize("config", [SANA_1_1, SMALL, LEAN, MIX, RES_ONLY], ids=["sana", "small", "lean", "mix", "res"])
def test_config_comes_back_from_shapes(config):
    assert infer_dcae_config(shapes_of(config)) == config


def test_published_size_has_the_published_tensors():
    shapes = shapes_of(infer_dcae_config(shapes_of(SANA_1_1)))
    assert len(shapes) == 375
    assert shapes["encoder.down_blocks.3.0.attn.to_qkv_multiscale.0.proj_out.weight"] == (1536, 32, 1, 1)


def test_unknown_latent_space_has_no_scaling_factor():
    config = infer_dcae_config(shapes_of(SMALL | {"latent_channels": 8}))
    assert "scaling_factor" not in config


def without(prefix: str) -> dict:
    return {name: shape for name, shape in shapes_of(SMALL).items() if not name.startswith(prefix)}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (without("encoder."), "encoder.down_blocks.0"),
        (without("decoder.conv_in"), "lacks decoder.conv_in.weight"),
        (without("decoder.up_blocks.5"), "6 stages down and 5 up"),
        (without("decoder.up_blocks.3"), "no block in decoder.up_blocks.3"),
        (without("encoder.down_blocks.5.0.attn"), "EfficientViTBlock and ResBlock in encoder.down_blocks.5"),
        (
            shapes_of(SMALL) | {"decoder.up_blocks.0.1.norm.weight": ()},
            r"norm.weight has shape \(\), expected 1",
        ),
    ],
)
def test_shapes_of_no_dcae_are_refused(shapes, message):
    with pytest.raises(CheckpointError, match=message) as refusal:
        infer_dcae_config(shapes)
    assert "\n" not in str(refusal.value)


def test_host_config_leaves_scaling_to_the_latent_format():
    config = host_dcae_config(infer_dcae_config(shapes_of(SANA_1_1)) | {"decoder_in_shortcut": True})
    assert config == SANA_1_1 | {"scaling_factor": 1.0}


@pytest.mark.parametrize(
    "part",
    [
        {"encoder_out_shortcut": False},
        {"decoder_in_shortcut": False},
        {"decoder_conv_act_fn": "silu"},
        {"decoder_act_fns": "mish"},
        {"decoder_act_fns": ["relu", "gelu", "silu"]},
    ],
)
def test_what_the_host_cannot_do_is_refused(part):
    with pytest.raises(CheckpointError, match=f"has {next(iter(part))}.*ComfyUI's DC-AE has no other$"):
        host_dcae_config(SMALL | part)


@pytest.mark.parametrize("config", [SMALL, LEAN, RES_ONLY], ids=["small", "lean", "res"])
def test_host_computes_the_same(config, tmp_path):
    """ComfyUI's own class, made from our mapped config, takes the weights and agrees with diffusers."""
    if "TIM_HOST_DIR" not in os.environ:
        pytest.skip("no ComfyUI to test with; run `python dev.py test`")
    model = random_dcae(config)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    inputs, expected = {}, {}
    for cells in [(1, 2), (7, 6)]:  # attention over few and over many positions is computed in two ways
        images = torch.randn(2, 3, *(model.spatial_compression_ratio * side for side in cells))
        with torch.no_grad():
            latents = model.encode(images).latent
            outputs = {"encode": latents, "decode": model.decode(latents).sample}
        inputs |= {f"encode.{cells}": images, f"decode.{cells}": latents.contiguous()}
        expected |= {f"{name}.{cells}": value for name, value in outputs.items()}
    save_file(inputs, tmp_path / "inputs.safetensors")
    run_host(tmp_path, host_dcae_config(config))
    computed = load_file(tmp_path / "outputs.safetensors")
    for name, value in expected.items():
        error = (computed[name] - value).abs().max().item()
        assert error < 1e-4, f"{name}: {error}"


def run_host(folder: Path, config: dict) -> None:
    """Encode and decode the inputs in `folder` with ComfyUI's class, in a process of its own."""
    command = [
        sys.executable,
        "-B",
        "-c",
        HOST_RUN,
        os.environ["TIM_HOST_DIR"],
        str(folder),
        json.dumps(config),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
