"""LoRA files of every style of names in the host's own loaders, or a line that says that one changes nothing."""

from __future__ import annotations

from functools import cache

import comfy.lora
from comfy.hooks import WeightHook
from comfy.model_base import BaseModel, HunyuanDiT, QwenImage
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoRAAdapter

from ...tim_model.files.tensor_files import CheckpointError
from ...tim_model.lora.updates import parse_lora
from ..graph.notices import warn

NO_EFFECT = (
    "this LoRA changes nothing: it is for another model, or ComfyUI does not know the names in its file; "
    "python -m tim_model inspect FILE says what it is, python -m tim_model convert FILE OUT gives it ComfyUI's names"
)


class LoraNames(QwenImage, HunyuanDiT):
    """A model in whose LoRA files the host also reads bare names of layers, transformer.*, lycoris_* and
    base_model.model.*.

    The host chooses these names by the class of a model alone. Everything else that the two classes do is undone here.
    """

    __init__ = BaseModel.__init__
    extra_conds = BaseModel.extra_conds
    extra_conds_shapes = BaseModel.extra_conds_shapes


class LoraPatcher:
    """Mixin of the host's patchers, of networks and text encoders."""

    def add_patches(self, patches: dict, *args, **kwargs) -> list:
        """Called by LoRA loaders with the patches that they recognized in a file."""
        if not patches:
            warn(NO_EFFECT)
        warn_of_shapes(self.model.state_dict(), patches)
        return super().add_patches(patches, *args, **kwargs)

    def add_hook_patches(self, hook: WeightHook, patches: dict, *args, **kwargs) -> list:
        """Called by LoRA hooks; these hold the file, so that every style of names is recognized."""
        if not patches and hook.need_weight_init and hook.weights:
            patches = self.patches_of(hook.weights)
        warn_of_shapes(self.model.state_dict(), patches)
        return super().add_hook_patches(hook, patches, *args, **kwargs)

    def patches_of(self, tensors: dict) -> dict:
        """The patches in a LoRA file for this model; none, with a warning, if it is not a LoRA of TiM."""
        try:
            tensors = parse_lora(tensors).state_dict()
        except CheckpointError:
            warn(NO_EFFECT)
            return {}
        names = comfy.lora.model_lora_keys_clip if getattr(self, "is_clip", False) else comfy.lora.model_lora_keys_unet
        return comfy.lora.load_lora(tensors, names(self.model, {}), log_missing=False)


def warn_of_shapes(state_dict: dict, patches: dict) -> None:
    """Warn of updates whose shape differs from that of their weight; the host leaves them out."""
    for key, patch in patches.items():
        if isinstance(patch, LoRAAdapter) and key in state_dict:
            up, down = patch.weights[:2]
            found, expected = (len(up), *down.shape[1:]), tuple(state_dict[key].shape)
            if found != expected:
                warn(f"this LoRA is for a model of other sizes: its {key} has {found}, this model {expected}; left out")
                return


def reading_loras(patcher: ModelPatcher) -> ModelPatcher:
    """The patcher, of the class that the host chose for it, as one that warns about LoRAs; so do its clones."""
    patcher.__class__ = lora_patcher(type(patcher))
    return patcher


@cache
def lora_patcher(kind: type[ModelPatcher]) -> type[ModelPatcher]:
    return type(f"TiM{kind.__name__}", (LoraPatcher, kind), {})
