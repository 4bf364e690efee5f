"""The precision that a run computes in: as set, or for "auto" bfloat16 where the device computes it natively."""

from __future__ import annotations

import os

import torch


def training_device(cpu: bool) -> torch.device:
    """Where a process trains: the accelerator, unless there is none or `cpu` or accelerate asks for the CPU."""
    told = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    if cpu or told or not torch.accelerator.is_available():
        return torch.device("cpu")
    return torch.accelerator.current_accelerator()


def computes_bf16(device: torch.device) -> bool:
    """Whether instructions of the device itself multiply matrices in bfloat16; elsewhere it is slower than float32.

    A GPU of compute capability 8.0 does, every one that this process sees being asked, and so does a CPU with
    avx512_bf16 or amx_bf16 that PyTorch may use (ATEN_CPU_CAPABILITY can forbid it). Others are taken for devices that
    do not.
    """
    if device.type == "cuda":
        return all(computes_bf16_on_gpu(i) for i in range(torch.cuda.device_count()))
    if device.type == "cpu":
        instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return instructions and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return False


def computes_bf16_on_gpu(index: int) -> bool:
    with torch.cuda.device(index):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def choose_precision(precision: str, device: torch.device) -> str:
    """One of "fp32", "bf16" and "fp16": `precision` itself, or what "auto" means on the device."""
    if precision != "auto":
        return precision
    return "bf16" if computes_bf16(device) else "fp32"


def describe_precision(precision: str, device: torch.device) -> str:
    """What is taken and why, for one line."""
    kind = device.type
    if precision == "auto" and computes_bf16(device):
        return f"bf16 (auto: this {kind} computes it natively)"
    if precision == "auto":
        return f"fp32 (auto: this {kind} does not compute bfloat16 natively)"
    if slower_bf16(precision, device):
        return f"bf16 (this {kind} does not compute it natively, run.precision=auto takes fp32, which is faster)"
    return precision


def slower_bf16(precision: str, device: torch.device) -> bool:
    """Whether bfloat16 was asked for where float32 is faster."""
    return precision == "bf16" and not computes_bf16(device)
