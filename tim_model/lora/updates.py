"""LoRA files (arXiv 2106.09685): every common style of names in, the names that ComfyUI reads out, merged weights."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..files.tensor_files import (
    CheckpointError,
    abbreviated,
    check_values,
    prefix_errors,
    read_names,
    read_tensors,
    write_safetensors,
)
from .names import find_layer, host_name, split_name

EXPECTED = "expected names such as diffusion_model.blocks.0.attn.qkv.lora_A.weight"


class Update(NamedTuple):
    """The update of one layer, scale * B A with A (rank, in) and B (out, rank); convolutions have more dimensions."""

    A: Tensor
    B: Tensor
    alpha: float | None = None  # None means rank, no scaling

    @property
    def rank(self) -> int:
        return len(self.A)

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / self.rank

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight that it belongs to."""
        return len(self.B), *self.A.shape[1:]

    def delta(self, device: torch.device | str = "cpu") -> Tensor:
        """What the weight gets at strength 1, float32."""
        A, B = (matrix.to(device, torch.float32).flatten(1) for matrix in (self.A, self.B))
        return (self.scale * (B @ A)).view(self.shape)


Updates = Mapping[str, Update]  # by the name of the layer, such as "blocks.0.attn.qkv"


@dataclass(frozen=True)
class Lora:
    """What a file holds: updates of a TiM network and of a Gemma-3 text encoder, and the file's metadata."""

    network: Updates
    text_encoder: Updates
    metadata: Mapping[str, str] = field(default_factory=dict)

    def state_dict(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Tensors in the names that ComfyUI's LoRA loaders read; alpha stays float32."""
        tensors = {}
        for layer, update in {**self.network, **self.text_encoder}.items():
            for part, matrix in (("lora_A", update.A), ("lora_B", update.B)):
                tensors[f"{host_name(layer)}.{part}.weight"] = matrix.detach().to("cpu", dtype).contiguous()
            if update.alpha is not None:
                tensors[f"{host_name(layer)}.alpha"] = torch.tensor(update.alpha, dtype=torch.float32)
        return tensors


def is_lora(path: str | os.PathLike) -> bool:
    """Whether the names in a readable file of tensors are those of a LoRA, of whatever network; False for others."""
    if Path(path).is_dir() or not Path(path).is_file():
        return False
    try:
        return any(re.search(r"lora_|lora\.|\.alpha$|hada_|lokr_", name) for name in read_names(path))
    except CheckpointError:
        return False  # whoever reads it next says what is wrong with it


def read_lora(path: str | os.PathLike) -> Lora:
    """The LoRA in a file, whole and understood, or CheckpointError in one line.

    Args:
        path: .safetensors, or a pickled state dict. Names may be this project's and ComfyUI's (`diffusion_model.*`),
            PEFT's (`base_model.model.*`, bare), those of diffusers (`transformer.*`), of kohya's scripts and of LyCORIS
            (`lora_unet_*`, `lora_transformer_*`, `lora_te_*`, `lycoris_*`), with `lora_A`, `lora_B` or `lora_down`,
            `lora_up`. Without alpha the updates are not scaled.
    """
    if not Path(path).exists():
        raise CheckpointError(f"{path}: no such file, expected a LoRA")
    tensors, metadata = read_tensors(path)
    with prefix_errors(path):
        return parse_lora(tensors, metadata)


def parse_lora(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Lora:
    """`read_lora` of tensors that are in memory."""
    parts: dict[tuple[bool, str], dict[str, Tensor]] = {}
    unknown = []
    for name, value in tensors.items():
        owner, part = split_name(name)
        key = find_layer(owner) if owner else None
        if key is None:
            unknown.append(name)
        elif part in parts.setdefault(key, {}):
            raise CheckpointError(f"{name}: the layer {key[1]} occurs twice, expected one update for each layer")
        else:
            parts[key][part] = value
    if unknown and len(unknown) == len(tensors):
        raise CheckpointError(f"is no LoRA of TiM: none of {len(tensors)} keys ({abbreviated(tensors)}), {EXPECTED}")
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} of {len(tensors)} keys were not understood ({abbreviated(unknown)}), {EXPECTED}"
        )
    if not parts:
        raise CheckpointError(f"holds no tensors, {EXPECTED}")
    updates = {key: make_update(key[1], found) for key, found in parts.items()}
    network, text_encoder = ({name: u for (text, name), u in updates.items() if text == kind} for kind in (False, True))
    return Lora(network, text_encoder, dict(metadata or {}))


def make_update(layer: str, parts: Mapping[str, Tensor]) -> Update:
    """The update of a layer; CheckpointError where a part is missing or does not fit the others."""
    if missing := {"A", "B"} - parts.keys():
        raise CheckpointError(f"LoRA of {layer}: has no lora_{min(missing)}, expected both matrices of the update")
    A, B = parts["A"], parts["B"]
    check_values({f"{layer}.lora_A": A, f"{layer}.lora_B": B})
    whole = min(A.ndim, B.ndim) >= 2 and A.numel() and B.numel()
    if not whole or len(A) != B.shape[1] or B[0, 0].numel() != 1:
        raise CheckpointError(
            f"LoRA of {layer}: has A {tuple(A.shape)} and B {tuple(B.shape)}, expected (rank, in) and (out, rank)"
        )
    return Update(A, B, read_alpha(layer, parts["alpha"]) if "alpha" in parts else None)


def read_alpha(layer: str, value: Tensor) -> float:
    """The number in a tensor; CheckpointError where it is none."""
    readable = value.numel() == 1 and not value.is_complex() and not value.is_meta and value.layout == torch.strided
    alpha = float(value) if readable else math.nan
    if not math.isfinite(alpha):
        found = alpha if readable else f"of shape {tuple(value.shape)} and dtype {value.dtype}"
        raise CheckpointError(f"LoRA of {layer}: has alpha {found}, expected one finite number")
    return alpha


@torch.no_grad()
def merge_updates(
    state_dict: Mapping[str, Tensor], updates: Sequence[tuple[Updates, float]], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The weights of a network with updates added to them: W + the sum of strength * alpha / rank * B A.

    Args:
        state_dict: by the names of the released layout, or of transformers' Gemma-3; left as it is.
        updates: each with its strength, any number.
        dtype: of the merged weights, which are computed in float32 and rounded once; by default each keeps its own.

    Raises:
        CheckpointError: see `check_fit`.
    """
    merged: dict[str, Tensor] = {}
    for found, strength in updates:
        check_fit(state_dict, found)
        for layer, update in found.items():
            key = f"{layer}.weight"
            weight = merged[key] if key in merged else state_dict[key].float()
            merged[key] = weight + strength * update.delta(weight.device)
    rounded = {key: weight.to(dtype or state_dict[key].dtype) for key, weight in merged.items()}
    return {**state_dict, **rounded}


def check_fit(state_dict: Mapping[str, Tensor], updates: Updates) -> None:
    """Raise CheckpointError for an update of a layer that the network lacks, or of another shape."""
    for layer, update in updates.items():
        weight = state_dict.get(f"{layer}.weight")
        if weight is None or weight.shape != update.shape:
            found = "no such layer" if weight is None else tuple(weight.shape)
            raise CheckpointError(
                f"LoRA of {host_name(layer)}: expected a weight {update.shape}, the network has {found}"
            )


def read_loras(
    loras: Sequence[tuple[str | os.PathLike, float]], state_dict: Mapping[str, Tensor]
) -> tuple[list[tuple[Updates, float]], list[tuple[Updates, float]]]:
    """The updates of several files and their strengths: those of a network, checked against its weights, and those of
    a text encoder.

    Raises:
        CheckpointError: a file that is no LoRA, or one of another network.
    """
    network, text_encoder = [], []
    for path, strength in loras:
        lora = read_lora(path)
        with prefix_errors(path):
            check_fit(state_dict, lora.network)
        for updates, found in ((network, lora.network), (text_encoder, lora.text_encoder)):
            if found:
                updates.append((found, strength))
    return network, text_encoder


def write_lora(lora: Lora, path: str | os.PathLike, dtype: torch.dtype | None = None) -> None:
    """Write a LoRA in ComfyUI's names, whole or not at all, with its metadata; by default it keeps its dtype."""
    write_safetensors(lora.state_dict(dtype), path, lora.metadata)
