"""TiM as a real MODEL of the host: its config, its model class and the patcher around them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import ClassVar

import comfy.conds
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import comfy.supported_models_base
import comfy.utils
import torch
from torch import Tensor

from ...tim_model import TiMParams
from ...tim_model.checkpoint import Checkpoint, read_checkpoint
from ...tim_model.files.tensor_files import prefix_errors
from ...tim_model.network.latent_space import LatentSpace
from ...tim_model.network.memory import network_bytes
from ..latents.latent_format import TiMLatentFormat
from ..run.conditions import NO_PADDING, prepare_conditions
from ..run.keys import LABEL, TARGET, TEXT, TIME
from ..run.sampling_run import prepare_run
from ..run.transitions import target_time
from .lora import LoraNames, reading_loras
from .network import HostTiM
from .patches import warn_of_unused_patches
from .texts import RunCond, RunTexts


class TiMConfig(comfy.supported_models_base.BASE):
    """What the host asks of a model family."""

    unet_extra_config: ClassVar[dict] = {}
    sampling_settings: ClassVar[dict] = {"shift": 1.0, "multiplier": 1.0}
    supported_inference_dtypes: ClassVar[list] = [torch.bfloat16, torch.float32]  # no float16: NaN, black images

    def __init__(self, params: TiMParams, space: LatentSpace, file: str | os.PathLike = ""):
        super().__init__({"params": params})
        self.latent_format = TiMLatentFormat(space, file)

    def inpaint_model(self) -> bool:
        return False

    def model_type(self, state_dict, prefix="") -> comfy.model_base.ModelType:
        return comfy.model_base.ModelType.FLOW


class TiMModel(LoraNames):
    """The host's model around the network: passes it the exact t and r, and checks conditions before sampling."""

    def __init__(self, config: TiMConfig, class_names: list[str], size: tuple[int, int], size_is_largest: bool):
        super().__init__(config, config.model_type({}), unet_model=HostTiM)
        self.size = size  # native (width, height) in pixels
        self.size_is_largest = size_is_largest  # training had no larger area
        self.params: TiMParams = config.unet_config["params"]
        self.class_names = class_names
        self.pad_text = NO_PADDING
        self.texts: RunTexts | None = None  # while a run lasts

    @contextlib.contextmanager
    def reading_texts_once(self) -> Iterator[None]:
        """Inside, for one run, the network reads each text at the first step alone."""
        outer, self.texts = self.texts, RunTexts()
        try:
            yield
        finally:
            self.texts = outer

    @property
    def space(self) -> LatentSpace:
        """The latent space, as the host keeps it."""
        return LatentSpace(
            self.params.in_channels, self.latent_format.spacial_downscale_ratio, self.latent_format.scale_factor
        )

    @property
    def unit(self) -> int:
        """Pixels of a token and side; the sides of images are multiples of it."""
        return self.space.ratio * self.params.patch_size

    def size_or_native(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels, with the native side in place of 0."""
        return width or self.size[0], height or self.size[1]

    def _apply_model(self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        options = transformer_options or {}
        warn_of_unused_patches(options, self.params.depth)
        shared = one_time(t, options)
        options = {**options, TIME: shared.float(), TARGET: target_time(shared, options)}
        if self.texts is not None and c_crossattn is not None:
            text = self.texts.read(self, c_crossattn, x.device, self.manual_cast_dtype or self.get_dtype())
            if text is not None:
                options[TEXT], c_crossattn = text, text.context
        padded = pad_to_patches(x, self.params.patch_size)
        output = super()._apply_model(padded, t, c_concat, c_crossattn, control, options, **kwargs)
        return output[..., : x.shape[-2], : x.shape[-1]]

    def extra_conds(self, **kwargs) -> dict:
        """Text features, or labels: those as integers, which no cast to the model's dtype can spoil."""
        p = self.params
        if p.num_classes is not None:
            if kwargs.get(LABEL) is None:
                raise ValueError("this TiM model knows classes, not text: connect TiM Class to its conditioning inputs")
            label = check_label(kwargs[LABEL], p.num_classes)
            zeroed_out = not kwargs["cross_attn"].any()  # by Conditioning Zero Out: no class
            return {"labels": comfy.conds.CONDRegular(torch.full_like(label, p.num_classes) if zeroed_out else label)}
        if kwargs.get(LABEL) is not None:
            raise ValueError("this TiM model knows text, not classes: connect CLIP Text Encode in place of TiM Class")
        features = kwargs["cross_attn"]
        if features.shape[-1] != p.context_dim:
            raise ValueError(
                f"conditioning has {features.shape[-1]} features, this TiM model expects {p.context_dim}: "
                "connect the text encoder that it was trained with"
            )
        return {"c_crossattn": RunCond(self.pad_text(kwargs))}

    def check_latent(self, latent: Tensor) -> None:
        """ValueError for latents that this network cannot take."""
        channels, patch = self.params.in_channels, self.params.patch_size
        if latent.ndim != 4:
            raise ValueError(
                f"latent has {latent.ndim} dimensions, a TiM model expects 4, as TiM Empty Latent makes them: "
                "images, no video, layers or sound"
            )
        height, width = latent.shape[-2:]
        if latent.shape[1] != channels or height % patch or width % patch:
            raise ValueError(
                f"latent has {latent.shape[1]} channels and {width}x{height} cells, this TiM model expects {channels} "
                f"channels and multiples of {patch}: make it with TiM Empty Latent or the model's VAE"
            )

    def memory_required(self, input_shape, cond_shapes=None) -> float:
        """Bytes of activations for latents of that shape."""
        dtype = self.manual_cast_dtype or self.get_dtype()
        return network_bytes(self.params, input_shape[0], *input_shape[-2:], dtype)


def one_time(t: Tensor, transformer_options: dict) -> Tensor:
    """The times t (B,) of a call, or (1,) where it is for the conditions of one image at one time.

    Networks are faster with one time for all samples. Only on a CPU does it cost nothing to see that there is one; and
    nodes that replace blocks expect a row for every sample.
    """
    chunks, replaced = transformer_options.get("cond_or_uncond", ()), transformer_options.get("patches_replace", {})
    is_one = len(t) == len(chunks) and t.device.type == "cpu" and not replaced.get("dit") and bool((t == t[0]).all())
    return t[:1] if is_one else t


def pad_to_patches(x: Tensor, patch: int) -> Tensor:
    """x (B,C,H,W), of an area of any size, continued at its lower and right edge to multiples of the patch.

    It starts again from the other edge, as the host's own transformers have it, as often as it takes.
    """
    for dim in (-2, -1):
        size = x.shape[dim]
        if size % patch:
            x = x.index_select(dim, torch.arange(-(-size // patch) * patch, device=x.device) % size)
    return x


def check_label(label: Tensor, num_classes: int) -> Tensor:
    """The label (1,) unchanged, or ValueError where it belongs to another model."""
    if not 0 <= int(label) <= num_classes:
        raise ValueError(
            f"class {int(label)}: this TiM model knows classes 0 to {num_classes - 1}; connect it to TiM Class"
        )
    return label


def load_model(path: str | os.PathLike, dtype: torch.dtype | None = None, disable_dynamic: bool = False):
    """The MODEL in a TiM checkpoint.

    Args:
        dtype: of the weights; None lets the host choose.
        disable_dynamic: set by hosts with dynamic loading when they need a plain patcher.

    Raises:
        CheckpointError: in one line.
    """
    checkpoint = read_checkpoint(path)
    config = build_config(checkpoint, dtype, path)
    with prefix_errors(path):
        model = TiMModel(config, checkpoint.class_names, checkpoint.default_size, checkpoint.states_resolution)
    model.file = path  # beside which its tuned schedules are
    # newer hosts replace CoreModelPatcher at start-up, older ones have none
    plain = comfy.model_patcher.ModelPatcher
    patcher_class = plain if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", plain)
    offload_device = comfy.model_management.unet_offload_device()
    patcher = reading_loras(patcher_class(model, comfy.model_management.get_torch_device(), offload_device))
    if not comfy.model_management.is_device_cpu(offload_device):
        model.to(offload_device)
    dynamic = hasattr(patcher, "is_dynamic") and patcher.is_dynamic()
    weights = {name: value for name, value in checkpoint.state_dict.items() if not name.startswith("projector.")}
    model.load_model_weights(weights, "", **({"assign": True} if dynamic else {}))
    patcher.cached_patcher_init = (load_model, (path, dtype))
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "TiM", prepare_run)
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "TiM", prepare_conditions)
    return patcher


def build_config(checkpoint: Checkpoint, dtype: torch.dtype | None, path: str | os.PathLike) -> TiMConfig:
    """The family's config for the checkpoint of a file on this host's devices."""
    config = TiMConfig(checkpoint.params.without_projector(), checkpoint.latent_space, path)
    supported = config.supported_inference_dtypes
    dtype = dtype or comfy.model_management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(checkpoint.state_dict),
        supported_dtypes=supported,
        weight_dtype=comfy.utils.weight_dtype(checkpoint.state_dict),
    )
    device = comfy.model_management.get_torch_device()
    config.set_inference_dtype(dtype, comfy.model_management.unet_manual_cast(dtype, device, supported))
    return config


def tim_model_of(patcher) -> TiMModel:
    """The TiM model inside a MODEL; ValueError for any other model."""
    if isinstance(patcher.model, TiMModel):
        return patcher.model
    raise ValueError(f"model is a {type(patcher.model).__name__}, expected a TiM model: connect Load TiM Model")
