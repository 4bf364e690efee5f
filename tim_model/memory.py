"""How much memory sampling and decoding need, and how much is free."""

from __future__ import annotations

import torch

from .params import TiMParams


def network_bytes(params: TiMParams, batch: int, height: int, width: int, dtype: torch.dtype) -> int:
    """Activations of one network call on latents (batch, C, height, width): 24 vectors of its width for each token."""
    tokens = batch * height * width // params.patch_size**2
    return 24 * tokens * params.hidden_size * dtype.itemsize


def free_memory(device: torch.device) -> int:
    """Bytes that `device` has free; for CPU and MPS that is the machine's available memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available
