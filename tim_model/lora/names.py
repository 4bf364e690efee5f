"""Names of LoRA keys: how trainers call the layers of a TiM network and its text encoder, and how ComfyUI does."""

from __future__ import annotations

import re
from functools import cache

from torch import nn

from ..network.params import TiMParams
from ..network.tim import TiM

HOST_PREFIX = "diffusion_model."
HOST_TEXT_PREFIX = "text_encoders.model."

# How trainers name the two matrices of an update x A^T B^T.
_STYLES = (
    (".lora_{}.weight", "A", "B"), (".lora_{}.default.weight", "A", "B"), (".lora_{}", "A", "B"),
    (".lora_{}.weight", "down", "up"), (".lora.{}.weight", "down", "up"), ("_lora.{}.weight", "down", "up"),
    (".lora_linear_layer.{}.weight", "down", "up"),
)  # fmt: skip
SUFFIXES = {style.format(name): part for style, *names in _STYLES for part, name in zip("AB", names, strict=True)}
SUFFIXES[".alpha"] = "alpha"

# What they put in front of a layer's name; kohya's scripts and LyCORIS write "_" for "." everywhere.
PREFIXES = re.compile(
    r"(?:lora_unet|lora_transformer|lora_te\d?|lycoris)_(?:(?:diffusion_|text_|language_)?model_)*"
    r"|(?:(?:base_model|model|module|net|diffusion_model|transformer|unet|text_encoders?|text_model|language_model)\.)*"
)
TEXT_LAYERS = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]


def host_name(layer: str) -> str:
    """What ComfyUI's LoRA loaders call a layer of a TiM network ("blocks.0...") or a text encoder ("layers.0...")."""
    return f"{HOST_TEXT_PREFIX if layer.startswith('layers.') else HOST_PREFIX}{layer}"


def split_name(name: str) -> tuple[str, str]:
    """The owner and the part ("A", "B" or "alpha") of a key; ("", "") for anything else."""
    for suffix, part in SUFFIXES.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix), part
    return "", ""


def find_layer(owner: str) -> tuple[bool, str] | None:
    """Whether a layer is one of the text encoder, and its name; None for one of other networks."""
    flat = owner[PREFIXES.match(owner).end() :].replace(".", "_")
    number = re.match(r"(blocks|layers)_(\d+)_", flat)
    key = flat if number is None else f"{number[1]}_0_{flat[number.end() :]}"
    if key not in layers():
        return None
    text, name = layers()[key]
    return text, name if number is None else name.replace(".0.", f".{number[2]}.", 1)


@cache
def layers() -> dict[str, tuple[bool, str]]:
    """Every layer with a matrix, the first block for all: name with "_" for "." -> (of the text encoder, name)."""
    sizes = {"in_channels": 1, "patch_size": 1, "hidden_size": 4, "depth": 1, "num_heads": 1, "mlp_hidden": 1}
    sizes |= {"adaln_hidden": 1, "z_dim": 1, "projector_dim": 1}
    conditions = ({"context_dim": 1}, {"num_classes": 1})
    nets = [TiM(TiMParams(**sizes, **condition), device="meta") for condition in conditions]
    names = [name for net in nets for name, module in net.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    found = [(False, name) for name in names] + [(True, f"layers.0.{name}") for name in TEXT_LAYERS]
    return {name.replace(".", "_"): (text, name) for text, name in found}
