"""`tim_model.TiM` as the host calls its networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor

from ...tim_model import TiM, TiMParams
from ...tim_model.network.attention import Attention
from ...tim_model.network.layers import Block, KeysValues
from ...tim_model.network.rope import UNSCALED, RopeScaling
from ...tim_model.network.tim import EncodedText
from ..run.keys import TARGET, TEXT, TIME

BLOCK = "double_block"  # what nodes call the blocks of networks that have one kind of them


def host_attention(q: Tensor, k: Tensor, v: Tensor, transformer_options: dict) -> Tensor:
    """The attention that the host has chosen, in the shapes of `tim_model.attention.Attention`."""
    return optimized_attention(q, k, v, heads=q.shape[1], skip_reshape=True, transformer_options=transformer_options)


class HostTiM(TiM):
    """The same network under the same parameter names; only arguments and attention are the host's.

    Attributes:
        in_channels, out_channels, patch_size, hidden_size, num_heads, depth: what nodes read off a network of the
            host (`in_channels`: Renorm CFG), as its own transformers have them.
        rope_scaling: how rotations adapt to images beyond the trained size; object patches of the host set it.
    """

    rope_scaling: RopeScaling = UNSCALED

    def __init__(
        self, params: TiMParams, dtype: torch.dtype | None = None, device: torch.device | None = None,
        operations: ModuleType | None = None, **ignored,
    ):  # fmt: skip
        super().__init__(params, operations, dtype=dtype, device=device)
        self.dtype = dtype
        self.in_channels = self.out_channels = params.in_channels
        self.patch_size, self.hidden_size = params.patch_size, params.hidden_size
        self.num_heads, self.depth = params.num_heads, params.depth

    def forward(
        self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, control: dict | None = None,
        transformer_options: dict | None = None, labels: Tensor | None = None, **ignored,
    ) -> Tensor:  # fmt: skip
        """F of x (B,C,H,W) through the wrappers that nodes have put around networks."""
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, transformer_options)
        if wrappers:  # EasyCache adds to x in place; in float32 x is the very state that the host goes on with
            x = x.clone()
        executor = WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(x, timesteps, context, control, transformer_options, labels=labels, **ignored)

    def _forward(
        self, x: Tensor, timesteps: Tensor, context: Tensor | None, control: dict | None, transformer_options: dict,
        labels: Tensor | None = None, **ignored,
    ) -> Tensor:  # fmt: skip
        """F of x; `timesteps` is not used, since hosts rescale it: t and r come in float32 beside it."""
        t, r = transformer_options[TIME], transformer_options[TARGET]
        attention = partial(host_attention, transformer_options=transformer_options)
        text = transformer_options.get(TEXT)
        if text is not None and text.context is context:  # no wrapper has changed it
            context = text.encoded
        tokens = context.tokens if isinstance(context, EncodedText) else None
        blocks = [host_block(i, block, transformer_options, tokens) for i, block in enumerate(self.blocks)]
        transformer_options |= {"block_type": "double", "total_blocks": len(blocks)}
        F, _ = self.predict(x, t, r, context if labels is None else labels, attention, blocks, self.rope_scaling)
        return F.contiguous()


def host_block(index: int, block: Block, transformer_options: dict, tokens: Tensor | None) -> Callable[..., Tensor]:
    """The block, or what a node put in its place, with the same arguments; attention patches find their block.

    Args:
        tokens: of the text, where blocks get their keys and values; nodes get the tokens.
    """
    replace = transformer_options.get("patches_replace", {}).get("dit", {}).get((BLOCK, index))

    def run(
        x: Tensor, c: Tensor, delta: Tensor, context: Tensor | KeysValues | None, rope: Tensor, attention: Attention
    ) -> Tensor:
        transformer_options["block_index"] = index
        if replace is None:
            return block(x, c, delta, context, rope, attention)
        given = context if tokens is None else tokens

        def original(args: dict) -> dict:
            read = context if args["txt"] is given else args["txt"]
            return {"img": block(args["img"], args["vec"], delta, read, args["pe"], attention)}

        args = {"img": x, "txt": given, "vec": c, "pe": rope, "transformer_options": transformer_options}
        return replace(args, {"original_block": original})["img"]

    return run
