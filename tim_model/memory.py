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
    """Bytes that `device` has free, or that torch keeps for reuse; for CPU and MPS the machine's available memory."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    import psutil

    return psutil.virtual_memory().available


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or for CPUs the machine, had no memory left; only CUDA and ROCm have a type for it."""
    told = str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in told or "DefaultCPUAllocator" in told
