"""One native pass of the published layout at a large size, and the tiled decode of its latent: memory, time, speed.

    python -m benchmarks.native_pass --size 4096 --dtype bfloat16 --tile 1536

Random weights. Each part runs in a process of its own, whose peak resident memory includes Python, weights and
activations. Speed is the multiplications and additions of the layers over the time, and its share of the speed of one
large matrix product of the same dtype on this machine, once before and once after. Linux only. If there is a
GPU, it is used and its own memory is reported.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while waiting are slow on a busy machine

import argparse
import multiprocessing
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.memory import DTYPES, LAYOUT, PROMPT_TOKENS, RATIO, resident
from devtools.random_stack import DC_AE
from tim_model import OFFICIAL, TiM
from tim_model.vae.autoencoder import VAE
from tim_model.vae.tiled_vae import decode_in_tiles

MATRIX, PRODUCTS = 4096, 3
Work = tuple[Callable[[], object], float]  # a call, and its floating-point operations


def network(dtype: torch.dtype, device: torch.device, size: int, tile: int | None) -> Work:
    """One call of the whole network for an image, without tiles."""
    params = OFFICIAL[LAYOUT].without_projector()

    def call(net: TiM, x: torch.Tensor, context: torch.Tensor) -> object:
        return net(x, x.new_ones(1), x.new_zeros(1), context)

    def inputs(place: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
        latents = 1, params.in_channels, size // RATIO, size // RATIO
        context = 1, PROMPT_TOKENS, params.context_dim
        return torch.randn(latents, device=place), torch.randn(context, device=place)

    with torch.device("meta"):
        shapes = TiM(params)
    operations = count(lambda: call(shapes, *inputs("meta")))
    net = TiM(params).init_weights().to(device, dtype).requires_grad_(False).eval()
    x, context = inputs(device)
    return lambda: call(net, x, context), operations


def decode(dtype: torch.dtype, device: torch.device, size: int, tile: int | None) -> Work:
    """The decode of a latent in tiles; operations are those of the whole image at once."""
    from diffusers import AutoencoderDC

    with torch.device("meta"):
        shapes = AutoencoderDC(**DC_AE)
    small = 512  # convolutions and linear attention: operations grow as the area does
    latent = torch.randn(1, 32, small // RATIO, small // RATIO, device="meta")
    operations = count(lambda: shapes.decode(latent)) * (size / small) ** 2
    vae = VAE(torch.nn.Module.to(AutoencoderDC(**DC_AE), device, dtype))  # as `load_vae` does
    latents = torch.randn(1, 32, size // RATIO, size // RATIO)

    def call() -> object:
        return decode_in_tiles(vae, latents, tile, on_tile=report)

    return call, operations


def report(done: int, total: int) -> None:
    print(f"tile {done} of {total}", flush=True)


PARTS = {"network": network, "decode": decode}


def count(call: Callable[[], object]) -> float:
    """Floating-point operations of a call on shapes alone."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def timed(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of the fastest of a few large matrix products."""
    a, b = (torch.randn(MATRIX, MATRIX, device=device).to(dtype) for _ in range(2))
    timed(lambda: a @ b, device)
    return 2 * MATRIX**3 / min(timed(lambda: a @ b, device) for _ in range(PRODUCTS))


@torch.inference_mode()
def measure(part: str, dtype: str, size: int, tile: int | None) -> str:
    """A row of the table."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    call, operations = PARTS[part](DTYPES[dtype], device, size, tile)
    before = matrix_rate(DTYPES[dtype], device)
    seconds = timed(call, device)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident("VmHWM")
    rate, best = operations / seconds, max(before, matrix_rate(DTYPES[dtype], device))
    speed = f"{operations / 1e12:.1f} | {rate / 1e9:.0f} of {best / 1e9:.0f} | {rate / best:.0%}"
    return f"| {part} | {dtype} | {size}x{size} | {seconds:.1f} | {peak / 2**30:.2f} | {speed} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="part", help=", ".join(PARTS))
    parser.add_argument("--size", type=int, default=4096, help="pixels a side (default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="default: %(default)s")
    parser.add_argument("--tile", type=int, help="pixels a side of the decoder's tiles (default: what memory allows)")
    a = parser.parse_args()
    if unknown := sorted({*a.parts} - {*PARTS}):
        parser.error(f"unknown parts {', '.join(unknown)}: expected {', '.join(PARTS)}")
    print("| | dtype | size | s | peak, GiB | Tflop | Gflop/s of a matrix product's | share |")
    print(f"|---|---|---|{'---:|' * 5}", flush=True)
    for part in a.parts:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply(measure, (part, a.dtype, a.size, a.tile)), flush=True)


if __name__ == "__main__":
    main()
