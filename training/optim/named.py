"""The optimizer of a recipe by its name: AdamW, or one of a library where it is installed."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..config.schema import OptimizerConfig
from .optimizer import decayed_groups, make_optimizer

LIBRARIES = {"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt", "adafactor": "transformers"}  # pip install as well
SMALL = 4096  # elements below which bitsandbytes keeps moments in 32 bits
PRODIGY_LR = 0.1  # a smaller factor of its estimate is a rate that was meant for another optimizer


def configured_optimizer(net: nn.Module, config: OptimizerConfig) -> Optimizer:
    """The optimizer of a config on the trainable parameters of `net`, with decay as in `decayed_groups`.

    Raises:
        ValueError: nothing is trainable, or its library is not installed.
    """
    c, betas = config, tuple(config.betas)
    check_library(config)
    if c.name == "adamw":
        return make_optimizer(net, c.lr, betas, c.weight_decay, c.eps)
    groups = decayed_groups(net, c.weight_decay)
    if c.name == "adamw8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(groups, lr=c.lr, betas=betas, eps=c.eps)
    if c.name == "prodigy":
        from prodigyopt import Prodigy

        return Prodigy(groups, lr=c.lr, betas=betas, eps=c.eps, use_bias_correction=True, safeguard_warmup=c.warmup > 0)
    from transformers.optimization import Adafactor

    # rates are those of the schedule, as for the others, not relative to the step or to the size of weights
    return Adafactor(groups, lr=c.lr, scale_parameter=False, relative_step=False, warmup_init=False)


def check_library(config: OptimizerConfig) -> None:
    """Raise ValueError if the library of the optimizer is missing."""
    library = LIBRARIES.get(config.name)
    try:
        if library:
            pkgutil.resolve_name(library)  # imports it
    except ImportError as error:
        why = "is not installed" if error.name == library else f"cannot be imported ({error})"
        raise ValueError(f"optimizer.name={config.name}: {library} {why}: pip install {library}") from None


def moment_bytes(name: str, parameters: Iterable[Tensor]) -> int:
    """Bytes of an optimizer's state for float32 parameters."""
    return sum(MOMENTS[name](parameter.shape) for parameter in parameters)


MOMENTS = {
    "adamw": lambda shape: 8 * shape.numel(),
    "adamw8bit": lambda shape: (2 if shape.numel() >= SMALL else 8) * shape.numel(),
    "prodigy": lambda shape: 16 * shape.numel(),  # two moments, the first weights, and what its estimate sums up
    "adafactor": lambda shape: 4 * (shape.numel() if len(shape) < 2 else shape[:-1].numel() + rows(shape)),
}


def rows(shape: torch.Size) -> int:
    """Elements of a tensor of this shape after a sum over the axis before the last one."""
    return (shape[:-2] + shape[-1:]).numel()


def describe_optimizer(config: OptimizerConfig, steps: int) -> list[str]:
    """The optimizer and its schedule, in a line each, and a note on a rate that was meant for another one."""
    c = config
    own = (
        "its own eps, no betas" if c.name == "adafactor" else f"betas {c.betas[0]:g} and {c.betas[1]:g}, eps {c.eps:g}"
    )
    cycles = f" in {c.num_cycles} cycles" if c.num_cycles > 1 else ""
    power = f" of power {c.power:g}" if c.schedule == "polynomial" else ""
    warmup = f", after {c.warmup} of warm-up" if c.warmup else ""
    lines = [
        f"optimizer: {c.name}, lr {c.lr:g}, weight decay {c.weight_decay:g}, {own}, gradients clipped to {c.clip:g}",
        f"schedule: {c.schedule}{power}{cycles} over {steps} steps{warmup}",
    ]
    if c.name == "prodigy" and c.lr < PRODIGY_LR:
        lines.append(f"note: prodigy multiplies the rate that it finds with optimizer.lr={c.lr:g}: 1 is usual")
    return lines
