"""The network's trunk behind torch.compile, so that one graph serves all sizes and prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def compiled_trunk(trunk: Callable[..., Any], backend: str | Callable) -> Callable[..., Any]:
    """`TiM.trunk`, compiled without breaks.

    One graph serves a batch of one and another all larger batches; passes with and without gradient, and one time for
    all samples or several, have their own.
    """
    compiled = torch.compile(trunk, fullgraph=True, dynamic=True, backend=backend)

    def run(tokens: Tensor, t: Tensor, r: Tensor, context: Any, rope: Tensor, *others: Any) -> Any:
        tokens = tokens.clone()  # no view, whose lengths would be those of its base
        free_length(tokens, 1)
        free_length(rope, 1)
        if isinstance(context, Tensor):
            free_length(context, 1)
        else:
            for part in (context.tokens, *(part for pair in context.keys_values for part in pair)):
                free_length(part, 1)
        return compiled(tokens, t, r, context, rope, *others)

    return run


def free_length(tensor: Tensor, dim: int) -> None:
    """Let that dimension be of any length, the batch as it comes, and all others as the weights have them.

    Otherwise lengths that happen to be equal in the first call, as those of an image and its prompt, would stay so.
    """
    if tensor.ndim > dim:
        torch._dynamo.maybe_mark_dynamic(tensor, dim)
        torch._dynamo.mark_static(tensor, others(tensor.ndim, dim))


def others(ndim: int, dim: int) -> Sequence[int]:
    return [i for i in range(1, ndim) if i != dim]
