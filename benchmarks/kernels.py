"""Kernels that one call launches and the bytes that they move, counted on fake tensors: no device, memory or weights.

    python -m benchmarks.kernels                                   # one forward of the 865M text layout
    python -m benchmarks.kernels --layout tim-c2i-b-p4-256 --sizes 256 --batch 8
    python -m benchmarks.kernels --module FILE.py:build            # another module beside it

Every operation that reaches PyTorch's dispatcher is one kernel, except for views and bare allocations. Its bytes are
those of its inputs and outputs, a broadcast dimension counting once; caches of a processor are not considered.

`build(params, dtype)` of another module returns a callable of (x, t, r, context), with the layout's `TiMParams`.
"""

from __future__ import annotations

import argparse
import runpy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tim_model import OFFICIAL, TiM, TiMParams
from tim_model.network.latent_space import latent_shape, latent_space

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
LAYOUT = "tim-t2i-xl-p1"

aten = torch.ops.aten
# without work although their schema does not say so
FREE = {
    aten._unsafe_view.default, aten.empty.memory_format, aten.empty_like.default, aten.empty_strided.default,
    aten.new_empty.default, aten.new_empty_strided.default, aten.lift_fresh.default,
}  # fmt: skip


class KernelCounter(TorchDispatchMode):
    """Counts while it is entered.

    Attributes:
        launches, bytes: by name of the operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace == "aten" and not is_free(func):
            name = func.overloadpacket.__name__
            self.launches[name] += 1
            self.bytes[name] += sum(moved(leaf) for leaf in tree_leaves((args, kwargs, result)))
        return result


def is_free(func: Any) -> bool:
    """Whether an operation of the dispatcher launches nothing: views and allocations."""
    aliases = [value.alias_info for value in func._schema.returns]
    return func in FREE or any(alias is not None and not alias.is_write for alias in aliases)


def moved(value: Any) -> int:
    """Bytes of a tensor, a broadcast dimension counting once; 0 of anything else."""
    if not isinstance(value, Tensor):
        return 0
    sizes = [size for size, stride in zip(value.shape, value.stride(), strict=True) if stride or not size]
    return torch.Size(sizes).numel() * value.itemsize


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Inside, tensors have shapes and no values; modules can be built at any size."""
    with FakeTensorMode(), torch.no_grad():
        yield


def count(call: Callable[[], object]) -> KernelCounter:
    """What one call launches, on fake or real tensors."""
    counter = KernelCounter()
    with counter:
        call()
    return counter


def inputs(params: TiMParams, size: int, batch: int, prompt_tokens: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """(x, t, r, context) of the layout for square images of `size` pixels, all alike but for labels in `dtype`."""
    shape = latent_shape(latent_space(params.in_channels), params.patch_size, size, size, batch)
    times = torch.zeros(batch)
    labels, text = torch.zeros(batch, dtype=torch.long), (batch, prompt_tokens, params.context_dim or 1)
    return (
        torch.zeros(shape, dtype=dtype),
        times,
        times,
        torch.zeros(text, dtype=dtype) if params.context_dim else labels,
    )


def forward_calls(
    params: TiMParams, size: int, batch: int, prompt_tokens: int, dtype: torch.dtype
) -> dict[str, Callable[[], object]]:
    """The first forward of a run, which reads the condition, and any other one."""
    net, (x, t, r, context) = TiM(params, dtype=dtype), inputs(params, size, batch, prompt_tokens, dtype)
    encoded = context if params.context_dim is None else net.encode_text(context)
    return {"first": lambda: net(x, t, r, context), "step": lambda: net(x, t, r, encoded)}


def other_call(
    place: str, params: TiMParams, size: int, batch: int, prompt_tokens: int, dtype: torch.dtype
) -> dict[str, Callable[[], object]]:
    """The forward of the module that FILE.py:FUNCTION builds."""
    file, _, function = place.rpartition(":")
    module = runpy.run_path(file)[function](params, dtype)
    given = inputs(params, size, batch, prompt_tokens, dtype)
    return {place: lambda: module(*given)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layout", choices=OFFICIAL, default=LAYOUT, help="default: %(default)s")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], help="pixels (default: %(default)s)")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES), help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=1, help="images (default: %(default)s)")
    parser.add_argument("--prompt-tokens", type=int, default=77, help="default: %(default)s")
    parser.add_argument("--module", metavar="FILE.py:FUNCTION", help="another module beside it")
    parser.add_argument("--operations", action="store_true", help="also list the operations")
    a = parser.parse_args()
    params = OFFICIAL[a.layout].without_projector()
    print("| forward | dtype | size | kernels | GB |\n|---|---|---|---:|---:|")
    for dtype in a.dtypes:
        for size in a.sizes:
            with fake_tensors():
                given = params, size, a.batch, a.prompt_tokens, DTYPES[dtype]
                calls = forward_calls(*given) | (other_call(a.module, *given) if a.module else {})
                for name, call in calls.items():
                    counter = count(call)
                    launches, moved_bytes = counter.launches.total(), counter.bytes.total() / 1e9
                    print(f"| {name} | {dtype} | {size}x{size} | {launches} | {moved_bytes:.2f} |", flush=True)
                    if a.operations:
                        print(*(f"    {n} {op}" for op, n in counter.launches.most_common()), sep="\n")


if __name__ == "__main__":
    main()
