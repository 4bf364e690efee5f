"""Unwraps state dicts of other programs: containers, prefixes, scaled 8-bit floats."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from .errors import CheckpointError, abbreviated

log = logging.getLogger(__name__)

# Put in front of every name by training wrappers, by torch.compile and by ComfyUI's own saving.
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "module.", "_orig_mod.", "net.")
# Of the models in one file, as ComfyUI's Save Checkpoint writes it.
PARTS = {
    "network": ("model.diffusion_model.",),
    "text encoder": ("cond_stage_model.", "text_encoders.", "conditioner."),
    "VAE": ("first_stage_model.", "vae."),
}
# Where training programs keep weights in a pickled dictionary, the one to sample from first.
CONTAINERS = ("ema", "ema_state_dict", "state_dict", "model", "module", "net")
EXPECTED = "expected a flat state dict of names and tensors"
FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
# ComfyUI's files of scaled weights: value = 8-bit number * scale. The others are for its fast matrix products.
SCALES = (".scale_weight", ".weight_scale")
SCALE_HINTS = (".scale_input", ".input_scale", ".comfy_quant")
SCALED_MARK = "scaled_fp8"


def unwrap(content: object) -> dict[str, Tensor]:
    """The state dict in the content of a pickle: the content itself, or the value under a name of `CONTAINERS`.

    Raises:
        CheckpointError: it holds anything but names and tensors.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(f"holds a {type(content).__name__}, {EXPECTED}")
    if content.get("format") is not None and isinstance(content.get("net"), Mapping):
        raise CheckpointError("is the state of a training run: python -m training.export writes its weights")
    found = [name for name in CONTAINERS if isinstance(content.get(name), Mapping) and content[name]]
    if found:
        if len(found) > 1:
            log.warning("the file holds %s: the weights under %s are read", " and ".join(found), found[0])
        return unwrap(content[found[0]])
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        raise CheckpointError(f"holds the entries {abbreviated(map(str, content))}, {EXPECTED}")
    return dict(content)


def strip_prefix(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the prefixes that training wrappers or ComfyUI put in front of every name."""
    for prefix in PREFIXES:
        if state_dict and all(name.startswith(prefix) for name in state_dict):
            return strip_prefix({name.removeprefix(prefix): value for name, value in state_dict.items()})
    return state_dict


def part(state_dict: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors of one kind of model in a file of several, without their prefix; other files are unchanged.

    Args:
        kind: a name in `PARTS`.

    Raises:
        CheckpointError: the file holds only other kinds.
    """
    prefixes = {prefix: name for name, group in PARTS.items() for prefix in group}
    if not state_dict or not all(name.startswith(tuple(prefixes)) for name in state_dict):
        return state_dict
    own = {
        name.removeprefix(prefix): value
        for name, value in state_dict.items()
        for prefix in PARTS[kind]
        if name.startswith(prefix)
    }
    if not own:
        found = sorted({name for prefix, name in prefixes.items() if any(n.startswith(prefix) for n in state_dict)})
        raise CheckpointError(f"holds a {' and a '.join(found)}, expected a {kind}: choose the file that has one")
    return own


def dequantize(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scaled 8-bit weights converted to bfloat16; files without scales are unchanged.

    Raises:
        CheckpointError: a scale without its 8-bit weight, or of another shape than one number or one for each row.
    """
    scales = {name: find_weight(name, state_dict) for name in state_dict if name.endswith(SCALES)}
    if not any(scales.values()):
        return state_dict
    if lost := [name for name, weight in scales.items() if weight is None]:
        raise CheckpointError(f"has scales without an 8-bit weight: {abbreviated(lost)}")
    dropped = {SCALED_MARK, *scales, *(name for name in state_dict if name.endswith(SCALE_HINTS))}
    weights = {name: value for name, value in state_dict.items() if name not in dropped}
    for name, weight in scales.items():
        weights[weight] = scaled(weights[weight], state_dict[name], name)
    return weights


def find_weight(scale: str, names: Mapping[str, Tensor]) -> str | None:
    """The 8-bit weight that a scale belongs to."""
    module = next(scale.removesuffix(ending) for ending in SCALES if scale.endswith(ending))
    weight = f"{module}.weight"
    return weight if weight in names and names[weight].dtype in FP8 else None


def scaled(weight: Tensor, scale: Tensor, name: str) -> Tensor:
    if scale.numel() not in (1, len(weight)) or not scale.is_floating_point():
        raise CheckpointError(f"{name} has shape {tuple(scale.shape)}, expected one number, or one for each row")
    return (weight.float() * scale.float().reshape(-1, *(1,) * (weight.ndim - 1))).bfloat16()
