"""AdamW with the published settings."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

FUSED_DEVICES = {"cpu", "cuda"}
HYPERPARAMETERS = ("betas", "weight_decay", "eps")  # besides the learning rate, which follows the schedule


def scaled_lr(lr: float, batch_size: int, base_batch_size: int) -> float:
    """Linear scaling: `lr` is for `base_batch_size` samples per step, 512 (text) or 256 (class) as published."""
    return lr * batch_size / base_batch_size


def param_groups(net: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters in two groups: matrices with decay; norms, biases and embedding tables without."""
    tables = {id(module.weight) for module in net.modules() if isinstance(module, nn.Embedding)}
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    for parameter in net.parameters():
        if parameter.requires_grad:
            (others if parameter.ndim < 2 or id(parameter) in tables else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def decayed_groups(net: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """The `param_groups` that have parameters.

    Raises:
        ValueError: nothing is trainable.
    """
    groups = [group for group in param_groups(net, weight_decay) if group["params"]]
    if not groups:
        raise ValueError("no parameter of the network is trainable: unfreeze some, or add LoRA")
    return groups


def make_optimizer(
    net: nn.Module,
    lr: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.95),
    weight_decay: float = 0.01,
    eps: float = 1e-6,
) -> AdamW:
    """AdamW on the trainable parameters of `net`, in a fused kernel if the device has one.

    Raises:
        ValueError: nothing is trainable.
    """
    groups = decayed_groups(net, weight_decay)
    fused = all(parameter.device.type in FUSED_DEVICES for group in groups for parameter in group["params"])
    return AdamW(groups, lr=lr, betas=betas, eps=eps, fused=fused)


def load_moments(optimizer: Optimizer, state: Mapping[str, object]) -> list[str]:
    """Load the moments of an optimizer's state, but not its settings; returns a line for each setting that differs."""
    configured = [{name: group[name] for name in HYPERPARAMETERS if name in group} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    lines = {}
    for group, values in zip(optimizer.param_groups, configured, strict=True):
        for name, value in values.items():
            old, new = plain(group[name]), plain(value)
            if old != new:
                lines[name] = f"optimizer.{name}: {old} in the state, {new} from here"
        group.update(values)
    return list(lines.values())


def plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
