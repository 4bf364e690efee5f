"""Loading a network and what belongs to it from files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from .checkpoint import build_net, read_checkpoint
from .files.errors import prefix_errors
from .lora.updates import Updates, merge_updates, read_loras
from .text.encoder import TextEncoder, load_text_encoder
from .vae.autoencoder import load_vae


def best_device() -> torch.device:
    """CUDA (or ROCm) where there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """float32 on a CPU, bfloat16 elsewhere."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def load_parts(
    model: str | os.PathLike,
    text_encoder: str | os.PathLike | None,
    vae: str | os.PathLike | None,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    loras: Sequence[tuple[str | os.PathLike, float]],
) -> dict[str, object]:
    """The arguments of `TiMPipeline` from files; see `TiMPipeline.from_files`."""
    device = torch.device(device or best_device())
    dtype = dtype or default_dtype(device)
    checkpoint = read_checkpoint(model)
    updates, text_updates = read_loras(loras, checkpoint.state_dict)
    if text_updates and not text_encoder:
        raise ValueError("a LoRA has updates for a text encoder: expected the text encoder that they belong to")
    checkpoint = replace(checkpoint, state_dict=merge_updates(checkpoint.state_dict, updates, dtype))
    reload = partial(load_merged, text_encoder, device, text_updates) if text_encoder else None
    return {
        "net": build_net(checkpoint, device, dtype),
        "space": checkpoint.latent_space,
        "text_encoder": reload() if reload else None,
        "vae": load_vae(vae, device, dtype) if vae else None,
        "class_names": checkpoint.class_names,
        "reload_text_encoder": reload,
        "default_size": checkpoint.default_size,
        "size_is_largest": checkpoint.states_resolution,
    }


def load_merged(path: str | os.PathLike, device: torch.device, updates: Sequence[tuple[Updates, float]]) -> TextEncoder:
    """The text encoder of `path` with updates of LoRAs in it."""
    encoder = load_text_encoder(path, device)
    if updates:
        with prefix_errors(path):
            weights = merge_updates(encoder.model.state_dict(), updates)
        encoder.model.load_state_dict(weights, assign=True)
        encoder.model.requires_grad_(False)
    return encoder
