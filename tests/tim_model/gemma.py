"""A small Gemma-3 text encoder: random weights, bytes as tokens, the published files' names and settings."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

PROMPTS = ["a red fox in the snow at dusk, 35 mm film", "", "two\nlines", "a fox " * 40, "café 🦊"]
CONFIG = {
    "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "torch_dtype": "float32",
    "vocab_size": 290, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 7,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 16,
    "max_position_embeddings": 1024, "rope_theta": 1000000, "rope_local_base_freq": 10000,
    "rope_scaling": None, "sliding_window": 8, "sliding_window_pattern": 6, "cache_implementation": "hybrid",
    "attention_bias": False, "rms_norm_eps": 1e-6, "bos_token_id": 2, "eos_token_id": [1, 106],
    "pad_token_id": 0, "hidden_activation": "gelu_pytorch_tanh",
}  # fmt: skip


def build_gemma(**settings):
    """A Gemma3TextModel built and initialized by transformers alone, with weights that make every part count.

    Args:
        settings: changes of `CONFIG`.
    """
    from transformers import Gemma3TextConfig, Gemma3TextModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Gemma3TextModel(Gemma3TextConfig(**{**CONFIG, **settings}))
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return model.requires_grad_(False).eval()


def published_weights() -> dict[str, torch.Tensor]:
    """Those of `build_gemma()`, by the names of Gemma3ForCausalLM."""
    return {f"model.{name}": value for name, value in build_gemma().state_dict().items()}


def write_gemma(folder: Path, weights: dict[str, torch.Tensor] | None = None, config: dict = CONFIG) -> Path:
    """Write a Hugging Face folder, and return it."""
    folder.mkdir(exist_ok=True)
    save_file(published_weights() if weights is None else weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    return folder


def tokenizer_json() -> str:
    """Bytes as tokens, with the ids and settings of Gemma's."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, processors

    control = ["<pad>", "<eos>", "<bos>", "<unk>"]
    words = control + [f"<0x{byte:02X}>" for byte in range(256)] + list("▁aefxnow,to\\") + ["fo", "fox"]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(words))}
    merges = [("f", "o"), ("fo", "x")]
    bpe = models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in control])
    return tokenizer.to_str()
