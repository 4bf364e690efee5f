"""A run's conditions: text features of one length, and warnings of inputs that TiM cannot use."""

from __future__ import annotations

import math

import comfy.samplers
import torch
from torch import Tensor

from ..graph.notices import warn
from .keys import LABEL, PAD_FEATURE

# What the host itself makes of a condition, or what is no input of a network.
HANDLED = {"cross_attn", "pooled_output", "model_conds", "uuid", "prompt_type", "hooks", "default"}
HANDLED |= {"area", "strength", "set_area_to_bounds", "mask", "mask_strength", "control_apply_to_uncond"}
HANDLED |= {"start_percent", "end_percent", "clip_start_percent", "clip_end_percent", "timestep_start", "timestep_end"}
HANDLED |= {PAD_FEATURE, LABEL}
NETWORKS = ("control", "gligen")
NAMES = {"control": "ControlNet", "gligen": "GLIGEN", "unclip_conditioning": "unCLIP"}


class TextPadding:
    """Brings the text features of a run to the length of the longest among `used`, each with its pad feature."""

    def __init__(self, conditions: dict[str, list[dict]], used: set[str]):
        texts = {name: [c for c in group if "cross_attn" in c] for name, group in conditions.items()}
        self.length = max((c["cross_attn"].shape[1] for name in used for c in texts.get(name, ())), default=0)
        self.known = {c.get("uuid") for group in conditions.values() for c in group}
        pads = (pad_feature(c) for group in texts.values() for c in group)
        self.pad = next((pad for pad in pads if pad is not None), None)

    def __call__(self, condition: dict) -> Tensor:
        """The features (B,L,D) of a condition; longer ones, which will not be used, are unchanged."""
        features = condition["cross_attn"]
        missing = self.length - features.shape[1]
        if missing < 0 and self.length and condition.get("uuid") not in self.known:
            warn(
                f"a prompt of {features.shape[1]} tokens, which a node encodes while sampling, is longer than the "
                f"{self.length} of the others: they are not padded to it, the image is wrong"
            )
        pad = self.pad_of(condition) if missing > 0 else None
        if pad is None:
            return features
        return torch.cat([features, pad.to(features).expand(len(features), missing, -1)], dim=1)

    def pad_of(self, condition: dict) -> Tensor | None:
        """The pad feature of a condition; if it has none, that of another one, with a warning."""
        pad = pad_feature(condition)
        if pad is None:
            length = condition["cross_attn"].shape[1]
            warn(
                f"a prompt of {length} tokens came without the feature that pads it to {self.length}, which some node "
                "dropped: "
                + ("not padded, the image is wrong" if self.pad is None else "padded with that of another prompt")
            )
        return self.pad if pad is None else pad


NO_PADDING = TextPadding({}, set())


def pad_feature(condition: dict) -> Tensor | None:
    """The feature (B or 1, 1, D) that pads a condition's text; None where nodes left nothing of it.

    The encoder gives it under its own key, and once more as its pooled output: hooks of the host, and nodes that
    know nothing else, keep only that. Zero Out makes zeros of it.
    """
    width = condition["cross_attn"].shape[-1]
    for pad in (condition.get(PAD_FEATURE), condition.get("pooled_output")):
        if pad is not None and pad.shape[-1] == width and pad.any():
            return pad.reshape(-1, 1, width)
    return None


def unused_conditions(guider: comfy.samplers.CFGGuider) -> set[str]:
    """The names of conditions that this guider never uses: the negative prompt at cfg 1.

    Guiders of other kinds may mean something else by `cfg`, or have several.
    """
    known = type(guider) is comfy.samplers.CFGGuider or getattr(guider, "skips_negative_at_cfg_1", False)
    if known and math.isclose(guider.cfg, 1.0) and not guider.model_options.get("disable_cfg1_optimization"):
        return {"negative"}
    return set()


def drop_unused_inputs(conditions: dict[str, list[dict]]) -> None:
    """Warn of inputs in conditions that TiM cannot use; texts and switches are notes of other nodes.

    Separate networks, which would run or fail on TiM's latents and prompts, are removed.
    """
    found = {
        NAMES.get(key, key.replace("_", " "))
        for group in conditions.values()
        for condition in group
        for key, value in condition.items()
        if key not in HANDLED and value is not None and not isinstance(value, (str, bool))
    }
    if found:
        warn(f"TiM models cannot use what the conditioning holds beside the prompt: {', '.join(sorted(found))}")
    for condition in (c for group in conditions.values() for c in group):
        for key in NETWORKS:
            condition.pop(key, None)


def prepare_conditions(executor, *args, **kwargs):
    """Wrapper around a whole run, of any sampler node.

    The padding stays with the model while the run lasts, since some nodes encode conditions of their own meanwhile.
    """
    guider = executor.class_obj
    drop_unused_inputs(guider.conds)
    model = guider.model_patcher.model
    model.pad_text = TextPadding(guider.conds, set(guider.conds) - unused_conditions(guider))
    try:
        return executor(*args, **kwargs)
    finally:
        model.pad_text = NO_PADDING
