"""What `inspect` says about a LoRA file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from ..network.params import OFFICIAL, TiMParams
from ..network.tim import TiM
from .updates import Updates, read_lora


def describe_lora(path: str | os.PathLike) -> str:
    """What a LoRA file is, one fact a line.

    Raises:
        CheckpointError: it is none of TiM.
    """
    lora = read_lora(path)
    updates = [*lora.network.values(), *lora.text_encoder.values()]
    of = [what for what, found in (("network", lora.network), ("text encoder", lora.text_encoder)) if found]
    facts = {
        "file": path,
        "kind": f"LoRA of a TiM {' and its '.join(of)}" if lora.network else "LoRA of TiM's text encoder (Gemma-3)",
        "rank": listed(update.rank for update in updates),
        "alpha": listed("none, not scaled" if u.alpha is None else f"{u.alpha:g}" for u in updates),
        "parameters": f"{sum(u.A.numel() + u.B.numel() for u in updates) / 1e6:.2f}M in {len(updates)} layers",
        "fits": fitting(lora.network) if lora.network else "text encoders of these shapes",
        "dtype": listed(str(u.A.dtype).removeprefix("torch.") for u in updates),
        "targets": ", ".join(targets_of(lora.network) + targets_of(lora.text_encoder)),
    }
    if lora.metadata:
        facts["metadata"] = ", ".join(f"{name}: {abridged(value)}" for name, value in lora.metadata.items())
    return "\n".join(f"{name:<11} {' '.join(str(fact).split())}" for name, fact in facts.items())


def abridged(text: str) -> str:
    return text if len(text) <= 60 else f"({len(text)} characters)"


def listed(values: Iterable[object]) -> str:
    """Each value once, in the order of their first occurrence."""
    return ", ".join(dict.fromkeys(map(str, values)))


def targets_of(updates: Updates) -> list[str]:
    """The layers as patterns with the shape of their weight, such as "blocks.*.attn.qkv 3456x1152 (28)"."""
    counts: dict[str, int] = {}
    for layer, update in updates.items():
        pattern = re.sub(r"^(blocks|layers)\.\d+\.", r"\1.*.", layer)
        name = f"{pattern} {'x'.join(map(str, update.shape))}"
        counts[name] = counts.get(name, 0) + 1
    return [f"{name} ({count})" if count > 1 else name for name, count in counts.items()]


def fitting(updates: Updates) -> str:
    """The published layouts that have all these layers, or what a network of one's own needs."""
    names = [name for name, params in OFFICIAL.items() if fits(updates, params)]
    depth = max((int(layer.split(".")[1]) + 1 for layer in updates if layer.startswith("blocks.")), default=0)
    own = f"a network of one's own with {f'at least {depth} blocks and ' if depth else ''}the shapes below"
    return ", ".join(names) if names else own


def fits(updates: Updates, params: TiMParams) -> bool:
    """Whether a network has all layers of these shapes."""
    shapes = {name: tuple(value.shape) for name, value in TiM(params, device="meta").state_dict().items()}
    return all(shapes.get(f"{layer}.weight") == update.shape for layer, update in updates.items())
