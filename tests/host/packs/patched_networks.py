"""Nodes as other packs have them: changes to a network from outside, and encoders of their own."""

from __future__ import annotations

import logging

import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers import set_torch_compile_wrapper

logger = logging.getLogger(__name__)


class Patch:
    """A node that changes a copy of its model."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"model": ("MODEL",), "value": ("FLOAT", {"default": 1.0})}})
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "execute"
    CATEGORY = "test"

    def execute(self, model, value):
        model = model.clone()
        self.change(model, value)
        return (model,)


class ScaledOutput(Patch):
    """Around the network: what it says, times `value`."""

    def change(self, model, value):
        def wrapper(executor, x, timesteps, *args, **kwargs):
            return value * executor(x, timesteps, *args, **kwargs)

        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", wrapper)


class ScaledBlocks(Patch):
    """In place of every block: the block of `value` times what it gets; a context is left as it is."""

    def change(self, model, value):
        def replace(args, extra):
            assert args["transformer_options"]["block_index"] in range(args["transformer_options"]["total_blocks"])
            return extra["original_block"]({**args, "img": value * args["img"]})

        for i in range(model.model.diffusion_model.depth):
            model.set_model_patch_replace(replace, "dit", "double_block", i)


class AttentionOfBlock(Patch):
    """Attention that looks at nothing but its own token, in the block of number `value`."""

    def change(self, model, value):
        def attention(func, q, k, v, *args, transformer_options, **kwargs):
            if transformer_options["block_index"] == int(value):
                return v.transpose(1, 2).flatten(2)
            return func(q, k, v, *args, transformer_options=transformer_options, **kwargs)

        model.model_options["transformer_options"]["optimized_attention_override"] = attention


class Compiled(Patch):
    """As the stock Torch Compile Model, without a compiler behind it: graphs run as they are, and are logged.

    `value` 1 refuses breaks of the graph, with the attention that hosts have on a GPU.
    """

    def change(self, model, value):
        def backend(graph, inputs):
            logger.info(f"compiled a graph of {len(graph.graph.nodes)} nodes")
            return graph.forward

        set_torch_compile_wrapper(model, backend=backend, fullgraph=bool(value))
        if value:
            options = model.model_options["transformer_options"] = dict(model.model_options["transformer_options"])
            options["optimized_attention_override"] = lambda func, *args, **kwargs: attention_pytorch(*args, **kwargs)


class LoggedText(Patch):
    """Logs each time that the network reads a text; `value` times the text is added to it in place before each step."""

    def change(self, model, value):
        def log(*given):
            logger.info("the network reads a text")

        def wrapper(apply_model, args):
            if value:
                args["c"]["c_crossattn"].mul_(1 + value)
            return apply_model(args["input"], args["timestep"], **args["c"])

        kv = model.model.diffusion_model.blocks[0].cross_attn.kv
        if not kv._forward_hooks:
            kv.register_forward_hook(log)
        model.set_model_unet_function_wrapper(wrapper)


class Encode:
    """A prompt by `encode_from_tokens`, as nodes do it that know no other outputs than features and pooled ones."""

    INPUT_TYPES = classmethod(
        lambda cls: {"required": {"clip": ("CLIP",), "text": ("STRING", {}), "pooled": ("BOOLEAN", {"default": True})}}
    )
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "execute"
    CATEGORY = "test"

    def execute(self, clip, text, pooled):
        features, output = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
        return ([[torch.clone(features), {"pooled_output": output} if pooled else {}]],)


NODE_CLASS_MAPPINGS = {
    "TestScaledOutput": ScaledOutput, "TestScaledBlocks": ScaledBlocks, "TestAttentionOfBlock": AttentionOfBlock,
    "TestCompiled": Compiled, "TestLoggedText": LoggedText, "TestEncode": Encode,
}  # fmt: skip
