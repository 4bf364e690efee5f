"""Random weights in the official file formats: the text-to-image stack in full size, or small for tests.

The images are noise; files, shapes, names and code paths are the real ones.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch

from tim_model import OFFICIAL, TiM, TiMParams, save_checkpoint

MODEL_FILE = "t2i_model.bin"
TEXT_ENCODER_FILE = "gemma-3-1b-it/model.safetensors"
VAE_FILE = "dc-ae-f32c32-sana-1.1/diffusion_pytorch_model.safetensors"
CLASS_FILES = {256: "c2i_model_256.safetensors", 512: "c2i_model_512.safetensors"}
SD_VAE_FILE = "sd-vae-ft-ema/diffusion_pytorch_model.safetensors"

GEMMA = {
    "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "hidden_size": 1152, "num_hidden_layers": 26,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 6912,
    "vocab_size": 262144, "sliding_window": 512, "sliding_window_pattern": 6, "rope_theta": 1e6,
    "rope_local_base_freq": 1e4, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "max_position_embeddings": 32768,
    "hidden_activation": "gelu_pytorch_tanh", "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip
SMALL_GEMMA = {
    "hidden_size": 32, "num_hidden_layers": 6, "head_dim": 16, "intermediate_size": 64, "vocab_size": 512,
    "sliding_window": 8, "query_pre_attn_scalar": 16,
}  # fmt: skip
SMALL_TIM = TiMParams(
    in_channels=32, patch_size=1, hidden_size=64, depth=3, num_heads=4, mlp_hidden=170, adaln_hidden=24,
    context_dim=32, z_dim=16, projector_dim=32,
)  # fmt: skip
SMALL_CLASS = {
    "hidden_size": 64,
    "depth": 2,
    "num_heads": 4,
    "mlp_hidden": 170,
    "adaln_hidden": 24,
    "num_classes": 1000,
}
RES, VIT = "ResBlock", "EfficientViTBlock"
DC_AE = {
    "latent_channels": 32, "attention_head_dim": 32, "scaling_factor": 0.41407,
    "encoder_block_types": (RES, RES, RES, VIT, VIT, VIT), "decoder_block_types": (RES, RES, RES, VIT, VIT, VIT),
    "encoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "decoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "encoder_layers_per_block": (2, 2, 2, 3, 3, 3), "decoder_layers_per_block": (3, 3, 3, 3, 3, 3),
    "encoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
    "decoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
    "downsample_block_type": "conv", "upsample_block_type": "interpolate",
}  # fmt: skip
SD_VAE = {  # in full size, the only one that a host knows
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
}  # fmt: skip
SMALL_DC_AE = {
    "attention_head_dim": 16, "encoder_block_out_channels": (8, 8, 16, 16, 32, 32),
    "decoder_block_out_channels": (8, 8, 16, 16, 32, 32), "encoder_layers_per_block": (1, 1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1, 1, 1),
}  # fmt: skip


def write_stack(models: Path, small: bool = True, dtype: torch.dtype = torch.float32) -> None:
    """Write model, text encoder and VAE below a host's models folder, under the names of the published files."""
    params = SMALL_TIM if small else OFFICIAL["tim-t2i-xl-p1"].without_projector()
    write_tim(models / "diffusion_models" / MODEL_FILE, params, dtype)
    write_gemma((models / "text_encoders" / TEXT_ENCODER_FILE).parent, GEMMA | (SMALL_GEMMA if small else {}), dtype)
    write_dc_ae((models / "vae" / VAE_FILE).parent, DC_AE | (SMALL_DC_AE if small else {}), dtype)


def write_class_models(models: Path) -> None:
    """Write small class models and an SD-VAE in half precision, under the names of the published files."""
    write_sd_vae((models / "vae" / SD_VAE_FILE).parent)
    for side, space in {256: {"in_channels": 4, "patch_size": 2}, 512: {"in_channels": 32, "patch_size": 1}}.items():
        net = randomize(TiM(TiMParams(**space, **SMALL_CLASS)), seed=side)
        save_checkpoint(net, models / "diffusion_models" / CLASS_FILES[side])


def with_published_files(workflow: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    """A text workflow in API format on this stack's files instead of the demo's, changed only as its note says."""
    changes = {
        "TiMModelLoader": {"model_name": MODEL_FILE},
        "TiMTextEncoderLoader": {"text_encoder_name": TEXT_ENCODER_FILE},
        "TiMVAELoader": {"vae_name": VAE_FILE},
        "TiMEmptyLatent": {"width": width, "height": height},
        "ImageScale": {"width": width, "height": height},
        "ImageScaleBy": {"scale_by": 1.0},
    }
    prompt = copy.deepcopy(workflow)
    for node in prompt.values():
        node["inputs"] |= changes.get(node["class_type"], {})
    return prompt


def randomize(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Give every weight a value that matters: norms near 1, all else small."""
    torch.manual_seed(seed)
    for name, weight in module.named_parameters():
        is_norm = "norm" in name and name.endswith("weight") and weight.ndim == 1
        torch.nn.init.normal_(
            weight, mean=float(is_norm), std=0.05 if weight.ndim == 1 else 0.8 * fan_in(weight) ** -0.5
        )
    return module


def fan_in(weight: torch.Tensor) -> int:
    return weight[0].numel()


def write_tim(path: Path, params: TiMParams, dtype: torch.dtype = torch.float32) -> None:
    """A pickled state dict, as the text model is published."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        net = TiM(params, dtype=dtype)
    torch.save(randomize(net.to_empty(device="cpu"), seed=1).state_dict(), path)


def write_gemma(folder: Path, config: dict[str, Any], dtype: torch.dtype = torch.float32) -> None:
    """A Hugging Face folder: config.json, model.safetensors, tokenizer.json."""
    from safetensors.torch import save_file
    from transformers import Gemma3TextConfig, Gemma3TextModel

    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        model = Gemma3TextModel(Gemma3TextConfig(**config)).to(dtype)
    weights = {f"model.{name}": torch.empty(value.shape, dtype=dtype) for name, value in model.named_parameters()}
    torch.manual_seed(2)
    for weight in weights.values():
        # norms multiply by 1 + weight; embeddings are scaled by the root of the width
        weight.normal_(std=0.1 if weight.ndim == 1 else fan_in(weight) ** -0.5)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer_json(config["vocab_size"]), encoding="utf-8")


def tokenizer_json(vocab_size: int) -> str:
    """A byte-fallback tokenizer in the style of Gemma's: printable ASCII, bytes, and words that never occur."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    words = [*special, *(f"<0x{i:02X}>" for i in range(256)), *map(chr, range(33, 127)), "\u2581"]
    words += [f"<unused{i}>" for i in range(vocab_size - len(words))]
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab, [], byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(special)
    return tokenizer.to_str()


def write_dc_ae(folder: Path, config: dict[str, Any], dtype: torch.dtype = torch.float32) -> None:
    """A folder as diffusers saves it: config.json and diffusion_pytorch_model.safetensors."""
    from diffusers import AutoencoderDC

    with torch.device("meta"):
        model = AutoencoderDC(**config).to(dtype)
    randomize(model.to_empty(device="cpu"), seed=3).save_pretrained(folder)


def write_sd_vae(folder: Path) -> None:
    """A folder as diffusers saves it, in half precision."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        model = AutoencoderKL(**SD_VAE)
    randomize(model.to_empty(device="cpu"), seed=6).half().save_pretrained(folder)
