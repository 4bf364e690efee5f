"""How much memory sampling and decoding need, as estimates, and how much is free."""

from __future__ import annotations

import torch

from .params import TiMParams

# Bytes a pixel for each byte of the dtype, of the published DC-AE. Measured on a CPU at 256x256, 512x512 and 1024x1024
# (benchmarks/memory.py): 880, 900 and 900 to encode, 1540, 1150 and 940 to decode in bfloat16; 960 and 730 to decode
# the smaller two in float32.
ENCODE_BYTES, DECODE_BYTES = 950, 1000


def network_bytes(params: TiMParams, batch: int, height: int, width: int, dtype: torch.dtype) -> int:
    """Activations of one network call on latents (batch, C, height, width).

    Taken as 30 vectors of the network's width for each token. Measured on a CPU at the published width, 512x512 to
    4096x4096 pixels (benchmarks/memory.py): 15 to 33 in bfloat16, 13 to 18 in float32.
    """
    tokens = batch * height * width // params.patch_size**2
    return 30 * tokens * params.hidden_size * dtype.itemsize


def check_room(params: TiMParams, batch: int, width: int, height: int, ratio: int, device: torch.device) -> None:
    """Raise ValueError for images that this machine cannot hold at all, before its memory is gone.

    What counts is the least that one step takes: a third of `network_bytes` in bfloat16, and the images, float32.

    Args:
        batch, width, height: of the images, in pixels, drawn together.
        ratio: pixels of a latent cell and side.
    """
    network = network_bytes(params, batch, height // ratio, width // ratio, torch.bfloat16) // 3
    wanted = network + 4 * 3 * batch * height * width
    if wanted > (total := total_memory(device)):
        raise ValueError(
            f"{batch} x {width}x{height} pixels: need {wanted / 2**30:.0f} GiB or more, the device {device} has "
            f"{total / 2**30:.0f}: draw fewer at once, or smaller ones"
        )


def total_memory(device: torch.device) -> int:
    """Bytes of memory that `device` has in all; for CPU and MPS those of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    import psutil

    return psutil.virtual_memory().total + psutil.swap_memory().total


def free_memory(device: torch.device) -> int:
    """Bytes that `device` has free, or that torch keeps for reuse; for CPU and MPS the machine's available memory."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    import psutil

    return psutil.virtual_memory().available


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or for CPUs the machine, had no memory left; only CUDA and ROCm have a type for it."""
    text = str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in text or "DefaultCPUAllocator" in text
