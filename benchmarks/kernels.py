"""Kernels that one call launches and the bytes that they move, counted on fake tensors: no device, memory or weights.

    python -m benchmarks.kernels                                   # one forward of the 865M text layout
    python -m benchmarks.kernels --layout tim-c2i-b-p4-256 --sizes 256 --batch 8
    python -m benchmarks.kernels --module FILE.py:build            # another module beside it

Every operation that reaches PyTorch's dispatcher is one kernel, except for views and bare allocations. Its bytes are
those of its inputs and outputs, a broadcast dimension counting once; caches of a processor are not considered.

`build(params, dtype)` of another module returns a callable of (x, t, r, context), with the layout's `TiMParams`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tim_model import TiM, TiMParams
from tim_model.network.latent_space import latent_shape, latent_space

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
LAYOUT = "tim-t2i-xl-p1"
PROMPT_TOKENS = 77

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
    """(x, t, r, context) of the layout for square images of `size` pixels."""
    x = torch.zeros(latent_shape(latent_space(params.in_channels), params.patch_size, size, size, batch))
    times = torch.zeros(batch)
    if params.num_classes is not None:
        return x, times, times, torch.zeros(batch, dtype=torch.long)
    return x, times, times, torch.zeros(batch, prompt_tokens, params.context_dim, dtype=dtype)


def build(params: TiMParams, dtype: torch.dtype) -> TiM:
    return TiM(params, dtype=dtype)
