"""The compute precision of a run: as set, or with "auto" bfloat16 if the device supports it natively."""

from __future__ import annotations

import torch


def training_device(cpu: bool) -> torch.device:
    """The device of a process: the accelerator, unless there is none or `cpu` or accelerate selects the CPU."""
    from accelerate.utils import parse_flag_from_env

    if cpu or parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available():
        return torch.device("cpu")
    return torch.accelerator.current_accelerator()


def computes_bf16(device: torch.device) -> bool:
    """Whether the device multiplies matrices in bfloat16 natively; on others it is slower than float32.

    True if all visible GPUs have compute capability 8.0 or higher, and for CPUs with avx512_bf16 or amx_bf16 that
    PyTorch may use (ATEN_CPU_CAPABILITY can forbid it). False for other devices.
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
    """The chosen precision and the reason, in words."""
    kind = device.type
    if precision == "auto" and computes_bf16(device):
        return f"bf16 (auto: this {kind} computes it natively)"
    if precision == "auto":
        return f"fp32 (auto: this {kind} does not compute bfloat16 natively)"
    if slower_bf16(precision, device):
        return f"bf16 (this {kind} does not compute it natively, run.precision=auto takes fp32, which is faster)"
    return precision


def slower_bf16(precision: str, device: torch.device) -> bool:
    """Whether bfloat16 was requested on a device on which float32 is faster."""
    return precision == "bf16" and not computes_bf16(device)
