"""Peak memory of single calls at full size, random weights, against the estimates of tim_model/network/memory.py.

    python -m benchmarks.memory network --sizes 512 1024 2048 4096    # two blocks of the 865M network
    python -m benchmarks.memory decode encode --sizes 256 512 1024    # the DC-AE f32c32 as diffusers computes it

Each call runs in a process of its own. Its memory is the process's highest resident memory minus that before the
call. A small call comes first, so that kernels are loaded. Linux only.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while waiting are slow on a busy machine

import argparse
import gc
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from devtools.random_stack import DC_AE
from tim_model import OFFICIAL, TiM
from tim_model.network.memory import DECODE_BYTES, ENCODE_BYTES, network_bytes

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
LAYOUT = "tim-t2i-xl-p1"
RATIO = 32
PROMPT_TOKENS = 77
WARM_UP = 128  # pixels


def network(dtype: torch.dtype, batch: int) -> tuple[Callable[[int], object], Callable[[int], float]]:
    """A call of two blocks of the network for images of a size, and the estimate for it in bytes."""
    params = replace(OFFICIAL[LAYOUT].without_projector(), depth=2, encoder_depth=1)
    net = TiM(params).init_weights().to(dtype).requires_grad_(False).eval()
    context = torch.randn(batch, PROMPT_TOKENS, params.context_dim)
    t, r = torch.ones(batch), torch.zeros(batch)

    def call(size: int) -> object:
        return net(torch.randn(batch, params.in_channels, size // RATIO, size // RATIO), t, r, context)

    return call, lambda size: network_bytes(params, batch, size // RATIO, size // RATIO, dtype)


def autoencoder(
    dtype: torch.dtype, batch: int, decodes: bool
) -> tuple[Callable[[int], object], Callable[[int], float]]:
    from diffusers import AutoencoderDC

    vae = AutoencoderDC(**DC_AE).to(dtype).requires_grad_(False).eval()

    def call(size: int) -> object:
        if decodes:
            return vae.decode(torch.randn(batch, 32, size // RATIO, size // RATIO, dtype=dtype)).sample
        return vae.encode(torch.randn(batch, 3, size, size, dtype=dtype)).latent

    each = DECODE_BYTES if decodes else ENCODE_BYTES
    return call, lambda size: each * dtype.itemsize * batch * size * size


PARTS = {
    "network": network,
    "decode": lambda dtype, batch: autoencoder(dtype, batch, True),
    "encode": lambda dtype, batch: autoencoder(dtype, batch, False),
}


def resident(name: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most since it was reset."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


@torch.inference_mode()
def measure(part: str, size: int, dtype: str, batch: int) -> tuple[float, float, float]:
    """(bytes that the call needed, bytes as estimated, seconds)."""
    torch.manual_seed(0)
    call, estimate = PARTS[part](DTYPES[dtype], batch)
    call(WARM_UP)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets VmHWM
    before, start = resident("VmRSS"), time.perf_counter()
    call(size)
    return resident("VmHWM") - before, estimate(size), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="part", help=", ".join(PARTS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048], help="default: %(default)s")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES), help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=1, help="images (default: %(default)s)")
    a = parser.parse_args()
    print("| | dtype | size | needed, MiB | estimate, MiB | s |\n|---|---|---|---:|---:|---:|", flush=True)
    for part in a.parts:
        for dtype in a.dtypes:
            for size in a.sizes:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    needed, estimate, seconds = pool.apply(measure, (part, size, dtype, a.batch))
                numbers = f"{needed / 2**20:.0f} | {estimate / 2**20:.0f} | {seconds:.1f}"
                print(f"| {part} | {dtype} | {size}x{size} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
