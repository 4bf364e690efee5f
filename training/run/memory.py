"""Estimates the device memory of a run without running it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tim_model import TiM, TiMParams

from ..config.schema import Config
from ..optim.lora import configured_lora
from ..optim.named import moment_bytes

GIB = 2**30
WIDTH = {"fp32": 4, "bf16": 2, "fp16": 2}  # bytes of a number


class KeepsInputs(torch.autograd.Function):
    """A stand-in for fused attention that keeps the same tensors for its gradient: inputs and output."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = q.new_empty(q.shape)
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError("only counted, never computed")


def activation_bytes(net: TiM, rows: int, shape: tuple[int, int, int], length: int) -> int:
    """Bytes that autograd keeps of one forward pass.

    Args:
        net: on the meta device, where a pass computes nothing.
        rows: samples of the pass.
        shape: (C,H,W) of a state.
        length: tokens of a caption; not used with classes.
    """
    like = next(net.parameters())
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[id(storage)] = storage
        return tensor

    x, t = like.new_empty(rows, *shape), like.new_empty(rows)
    width = net.params.context_dim
    context = like.new_empty(rows, length, width) if width else torch.empty(rows, dtype=torch.long, device="meta")
    fused = lambda q, k, v: KeepsInputs.apply(q, k, v).transpose(1, 2).flatten(2)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(x, t, t, context, attention=fused)
    weights = {id(parameter.untyped_storage()) for parameter in net.parameters()}
    return sum(storage.nbytes() for key, storage in kept.items() if key not in weights)


def estimate(config: Config, params: TiMParams, precision: str, world: int, batch: tuple) -> dict[str, float]:
    """GiB by purpose, for the process with the largest batch.

    Args:
        batch: shape (C,H,W) of the largest states, and tokens of the longest caption.
    """
    net = TiM(params, device="meta")
    if config.model.trains_lora:
        configured_lora(net, config.model)
    every = sum(value.numel() for value in net.parameters())
    learned = [value for value in net.parameters() if value.requires_grad]
    trained = sum(value.numel() for value in learned)
    width = WIDTH[precision]
    rows = -(-config.data.batch_size // world)
    rows = -(-rows // config.optimizer.accumulation)
    kept = activation_bytes(net.to({2: torch.bfloat16, 4: torch.float32}[width]), rows, *batch)
    if config.run.gradient_checkpointing:  # the input of each block, and everything in the current block
        (_, h, w), _ = batch
        tokens = rows * h * w // params.patch_size**2
        kept = kept // params.depth + params.depth * tokens * params.hidden_size * width
    frozen = (every - trained) * (width if config.model.trains_lora else 4)
    cast = width * trained if width < 4 else 0  # autocast's copies of float32 weights
    parts = {
        "weights": frozen + 4 * trained + cast, "gradients": 4 * trained * (2 if world > 1 else 1),
        "optimizer": moment_bytes(config.optimizer.name, learned), "average": 4 * trained, "activations": kept,
    }  # fmt: skip
    return {name: size / GIB for name, size in parts.items()}


def describe_memory(parts: Mapping[str, float]) -> str:
    """An estimate in one line."""
    listed = ", ".join(f"{name} {size:.2f}" for name, size in parts.items())
    return f"memory: about {sum(parts.values()):.2f} GiB a process ({listed}), beside what libraries take"
