"""How much memory sampling and decoding need, as estimates, and how much is free."""

from __future__ import annotations

import torch

from .params import TiMParams

# Bytes a pixel for each byte of the dtype, at the widths of the published DC-AE. Decoding 1024x1024 pixels in float32
# on a CPU was seen to need 560 (benchmarks/full_size.py: the peak there over that at 256x256).
ENCODE_BYTES, DECODE_BYTES = 700, 1100


def network_bytes(params: TiMParams, batch: int, height: int, width: int, dtype: torch.dtype) -> int:
    """Activations of one network call on latents (batch, C, height, width).

    Taken as 24 vectors of the network's width for each token, which is not measured yet.
    """
    tokens = batch * height * width // params.patch_size**2
    return 24 * tokens * params.hidden_size * dtype.itemsize


def free_memory(device: torch.device) -> int:
    """Bytes that `device` has free; for CPU and MPS that is the machine's available memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available
