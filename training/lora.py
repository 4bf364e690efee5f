"""LoRA (arXiv 2106.09685): low-rank updates of chosen linear layers, in the names that ComfyUI reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HOST_PREFIX = "diffusion_model."
PARTS = ("lora_A.weight", "lora_B.weight", "alpha")
TARGETS = tuple(
    f"blocks.*.{layer}"
    for layer in (
        "attn.qkv", "attn.proj", "cross_attn.q", "cross_attn.kv", "cross_attn.proj", "mlp.fc1_g", "mlp.fc1_x", "mlp.fc2"
    )
)  # fmt: skip


class LoRALinear(nn.Linear):
    """x W^T + b + alpha / rank * (x A^T) B^T with frozen W and b, A (rank, in), B (out, rank) that starts at 0.

    It holds the weights of the `linear` it stands in for, under their old names.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float):
        has_bias = linear.bias is not None
        super().__init__(linear.in_features, linear.out_features, has_bias, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.rank, self.alpha = rank, alpha
        factory = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.lora_A = nn.Linear(linear.in_features, rank, bias=False, **factory)
        self.lora_B = nn.Linear(rank, linear.out_features, bias=False, **factory)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + self.alpha / self.rank * self.lora_B(self.lora_A(x))


def add_lora(net: nn.Module, rank: int, alpha: float | None = None, targets: Sequence[str] = TARGETS) -> nn.Module:
    """Put LoRA on the linear layers of `net` whose names match; all other weights are frozen. Returns net.

    Args:
        rank: of the updates.
        alpha: the updates are scaled by alpha / rank; rank by default, no scaling.
        targets: patterns of layer names, such as "blocks.*.attn.qkv".

    Raises:
        ValueError: rank < 1, or a pattern matches no linear layer (cross_attn patterns may, in class models).
    """
    if rank < 1:
        raise ValueError(f"rank={rank}: expected a whole number from 1")
    linears = {name: module for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    matched = {pattern: [name for name in linears if fnmatchcase(name, pattern)] for pattern in targets}
    unmatched = [pattern for pattern, names in matched.items() if not names and "cross_attn" not in pattern]
    if unmatched or not any(matched.values()):
        raise ValueError(f"LoRA targets {unmatched or list(targets)}: no linear layer of this network has such a name")
    net.requires_grad_(False)
    for name in dict.fromkeys(name for names in matched.values() for name in names):
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, LoRALinear(linears[name], rank, rank if alpha is None else alpha))
    return net


def lora_state_dict(net: nn.Module) -> dict[str, Tensor]:
    """The updates alone, in the host's names: diffusion_model.<layer>.lora_A.weight, .lora_B.weight and .alpha."""
    state = {}
    for name, module in net.named_modules():
        if isinstance(module, LoRALinear):
            values = (module.lora_A.weight.detach(), module.lora_B.weight.detach(), torch.tensor(float(module.alpha)))
            state.update({f"{HOST_PREFIX}{name}.{part}": v for part, v in zip(PARTS, values, strict=True)})
    return state


@torch.no_grad()
def merge_lora(state_dict: Mapping[str, Tensor], lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network, in the released layout, with the updates of a `lora_state_dict` added to them.

    Raises:
        ValueError: the LoRA has a layer that the network lacks, or of another shape.
    """
    merged = dict(state_dict)
    for name in [key.removesuffix(".alpha") for key in lora if key.endswith(".alpha")]:
        A, B, alpha = (lora[f"{name}.{part}"].float() for part in PARTS)
        key = f"{name.removeprefix(HOST_PREFIX)}.weight"
        if key not in merged or merged[key].shape != (len(B), A.shape[1]):
            found = tuple(merged[key].shape) if key in merged else "no such layer"
            raise ValueError(f"LoRA of {name}: expected a weight {(len(B), A.shape[1])}, the network has {found}")
        update = alpha / len(A) * B @ A
        merged[key] = (merged[key].float() + update.to(merged[key].device)).to(merged[key].dtype)
    return merged
