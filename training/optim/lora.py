"""LoRA (arXiv 2106.09685): training only low-rank updates of selected linear layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tim_model.files.tensor_files import prefix_errors
from tim_model.lora.updates import Lora, Update, Updates, check_fit, merge_updates, parse_lora, read_lora

from ..config.schema import LORA_GROUPS, ModelConfig
from ..objectives.draws import Draws

ALPHA = 16.0  # if neither the config nor a file states it
DEFAULT_GROUPS = ("attention", "cross_attention", "mlp")
TARGETS = tuple(pattern for group in DEFAULT_GROUPS for pattern in LORA_GROUPS[group])


class LoRALinear(nn.Linear):
    """x W^T + b + alpha / rank * (x A^T) B^T with frozen W and b, A (rank, in), B (out, rank) that starts at 0.

    It holds the weights of the `linear` that it replaces, with their names and dtype. A and B are float32, so that
    small steps are not lost to rounding.

    Args:
        dropout: share of the input features that the update does not see in a step, see `draw_dropout`.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout: float = 0.0):
        has_bias = linear.bias is not None
        super().__init__(linear.in_features, linear.out_features, has_bias, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.rank, self.alpha, self.dropout = rank, alpha, dropout
        factory = {"device": linear.weight.device, "dtype": torch.float32}
        self.lora_A = nn.Linear(linear.in_features, rank, bias=False, **factory)
        self.lora_B = nn.Linear(rank, linear.out_features, bias=False, **factory)
        nn.init.zeros_(self.lora_B.weight)
        if dropout:
            self.register_buffer("kept", torch.ones(linear.in_features, **factory), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        A = self.lora_A.weight
        if self.dropout and self.training:
            A = A * self.kept
        return F.linear(x, self.weight, self.bias) + self.alpha / self.rank * self.lora_B(F.linear(x, A))


def add_lora(
    net: nn.Module,
    rank: int,
    alpha: float | None = None,
    targets: Sequence[str] = TARGETS,
    dropout: float = 0.0,
) -> nn.Module:
    """Put LoRA on the linear layers of `net` whose names match; all other weights are frozen. Returns net.

    Args:
        rank: of the updates.
        alpha: the updates are scaled by alpha / rank; rank by default, no scaling.
        targets: names in `LORA_GROUPS`, or patterns of layer names such as "blocks.*.attn.qkv".
        dropout: see `LoRALinear`.

    Raises:
        ValueError: rank < 1, or a pattern matches no linear layer (cross_attn patterns may, in class models).
    """
    if rank < 1:
        raise ValueError(f"rank={rank}: expected a whole number from 1")
    layers = matching_layers(net, targets)
    net.requires_grad_(False)
    for name in layers:
        put(net, name, LoRALinear(net.get_submodule(name), rank, rank if alpha is None else alpha, dropout))
    return net


def matching_layers(net: nn.Module, targets: Iterable[str]) -> list[str]:
    """Names of the matching linear layers, without the REPA head; ValueError for a pattern without a match."""
    linears = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    linears = [name for name in linears if not name.startswith("projector.")]
    patterns = [pattern for target in targets for pattern in LORA_GROUPS.get(target, (target,))]
    matched = {pattern: [name for name in linears if fnmatchcase(name, pattern)] for pattern in patterns}
    unmatched = [pattern for pattern, names in matched.items() if not names and "cross_attn" not in pattern]
    if unmatched or not any(matched.values()):
        raise ValueError(f"LoRA targets {unmatched or list(targets)}: no linear layer of this network has such a name")
    return list(dict.fromkeys(name for names in matched.values() for name in names))


def put(net: nn.Module, name: str, layer: LoRALinear) -> None:
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, layer)


def configured_lora(net: nn.Module, config: ModelConfig) -> nn.Module:
    """Put the LoRA of a config on `net`: a new one, or that of a file. Returns net.

    Raises:
        ValueError: no such layers, or a file that is no LoRA, fits another network or contradicts the config.
    """
    c = config
    if not c.lora:
        alpha = ALPHA if c.lora_alpha is None else c.lora_alpha
        return add_lora(net, c.lora_rank, alpha, c.lora_targets or DEFAULT_GROUPS, c.lora_dropout)
    lora = read_lora(c.lora)
    with prefix_errors(f"model.lora={c.lora}"):
        check_start(net, lora, c)
    net.requires_grad_(False)
    for name, update in lora.network.items():
        alpha = float(update.rank) if update.alpha is None else update.alpha
        layer = LoRALinear(net.get_submodule(name), update.rank, alpha, c.lora_dropout)
        for part, matrix in ((layer.lora_A, update.A), (layer.lora_B, update.B)):
            part.weight.data.copy_(matrix.flatten(1))
        put(net, name, layer)
    return net


def check_start(net: nn.Module, lora: Lora, config: ModelConfig) -> None:
    """Raise ValueError unless training can go on from a file, and agrees with what the config states."""
    if lora.text_encoder:
        layers = f"{len(lora.text_encoder)} layers of a text encoder"
        raise ValueError(f"has updates for {layers}, which training would lose: expected those of a network alone")
    check_fit(net.state_dict(), lora.network)
    linears = matching_layers(net, config.lora_targets or ["*"])
    if odd := [name for name in lora.network if name not in linears]:
        raise ValueError(f"has an update of {odd[0]}, expected linear layers within model.lora_targets")
    if config.lora_targets and (missing := [name for name in linears if name not in lora.network]):
        raise ValueError(f"has no update of {missing[0]}, which is set in model.lora_targets: leave them out")
    updates = lora.network.values()
    found = {"rank": {u.rank for u in updates}, "alpha": {u.rank if u.alpha is None else u.alpha for u in updates}}
    for name, wanted in (("rank", config.lora_rank or None), ("alpha", config.lora_alpha)):
        if wanted is not None and not all(math.isclose(value, wanted, rel_tol=1e-6) for value in found[name]):
            values = ", ".join(f"{value:g}" for value in sorted(found[name]))
            raise ValueError(f"has {name} {values}, but model.lora_{name}={wanted:g} is set: leave it out")


def lora_modules(net: nn.Module) -> dict[str, LoRALinear]:
    return {name: module for name, module in net.named_modules() if isinstance(module, LoRALinear)}


def draw_dropout(net: nn.Module, seed: int, step: int) -> None:
    """Draw which input features the updates of `net` do not see in a step, a pure function of (seed, step, layer).

    All rows, processes and passes of the step share them, so that the passes of a derivative differ in their times
    alone, and splitting a batch changes nothing. The features that remain are scaled to make up for the others.
    """
    for name, module in lora_modules(net).items():
        if module.dropout:
            uniform = Draws(seed, step, [0]).uniform(f"lora_dropout.{name}", (module.in_features,))[0]
            module.kept.copy_((uniform >= module.dropout) / (1 - module.dropout))


def lora_layers(net: nn.Module) -> dict[str, list[float]]:
    """[rank, alpha] of every layer with an update, as states record them."""
    return {name: [module.rank, float(module.alpha)] for name, module in lora_modules(net).items()}


def state_layers(state: Mapping[str, dict]) -> dict[str, list[float]]:
    """`lora_layers` of a state's network; older states have one alpha for all layers."""
    lora = state["lora"]
    if "layers" in lora:
        return lora["layers"]
    names = [name.removesuffix(".lora_A.weight") for name in state["net"] if name.endswith(".lora_A.weight")]
    return {name: [lora["rank"], float(lora["alpha"])] for name in names}


def layers_summary(layers: Mapping[str, Sequence[float]]) -> str:
    """`lora_layers` in a few words."""
    if not layers:
        return "none"
    ranks, alphas = (", ".join(f"{v:g}" for v in sorted(set(values))) for values in zip(*layers.values(), strict=True))
    return f"rank {ranks}, alpha {alphas}, {len(layers)} layers from {next(iter(layers))} to {list(layers)[-1]}"


def state_updates(state: Mapping[str, dict], weights: Mapping[str, Tensor]) -> Updates:
    """The updates of a state with LoRA, of its weights as trained or averaged."""
    return {
        name: Update(weights[f"{name}.lora_A.weight"], weights[f"{name}.lora_B.weight"], alpha)
        for name, (_, alpha) in state_layers(state).items()
    }


def lora_state_dict(net: nn.Module) -> dict[str, Tensor]:
    """The updates alone, in the host's names: diffusion_model.<layer>.lora_A.weight, .lora_B.weight and .alpha."""
    modules = lora_modules(net).items()
    updates = {name: Update(m.lora_A.weight.detach(), m.lora_B.weight.detach(), float(m.alpha)) for name, m in modules}
    return Lora(updates, {}).state_dict()


def merge_lora(state_dict: Mapping[str, Tensor], lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network, in the released layout, with the updates of a `lora_state_dict` added to them.

    Raises:
        ValueError: the LoRA has a layer that the network lacks, or of another shape.
    """
    return merge_updates(state_dict, [(parse_lora(lora).network, 1.0)])
