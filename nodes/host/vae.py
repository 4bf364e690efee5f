"""DC-AE as a real VAE of the host, computed by the host's own AutoencoderDC."""

from __future__ import annotations

import os
from collections.abc import Mapping

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from comfy.ldm.ace.vae.autoencoder_dc import AutoencoderDC
from torch import Tensor

from ...tim_model.files.tensor_files import CheckpointError, check_layout, prefix_errors
from ...tim_model.network.memory import DECODE_BYTES, ENCODE_BYTES
from ...tim_model.vae.dcae import host_dcae_config
from ...tim_model.vae.files import read_vae
from ..latents.pixel_latents import warn_of_pixel_nodes

TILE = 1024  # pixels: smaller tiles leave artifacts in even areas
OVERLAP = 256  # pixels


class TiMVAE(comfy.sd.VAE):
    """The host's VAE around a DC-AE: its ratio, its channels and tiles without visible seams."""

    def __init__(self, config: Mapping[str, object], state_dict: dict[str, Tensor]):
        # the host's smallest VAE, for the defaults of this host's version
        super().__init__(sd={"pixel_space_vae": torch.tensor(1.0)})
        self.latent_channels = config["latent_channels"]
        self.downscale_ratio = self.upscale_ratio = 2 ** (len(config["encoder_block_out_channels"]) - 1)
        self.disable_offload = False
        self.memory_used_encode = lambda shape, dtype: (
            ENCODE_BYTES * shape[-1] * shape[-2] * comfy.model_management.dtype_size(dtype)
        )
        self.memory_used_decode = lambda shape, dtype: (
            DECODE_BYTES * shape[-1] * shape[-2] * self.upscale_ratio**2 * comfy.model_management.dtype_size(dtype)
        )
        self.set_model(AutoencoderDC(**host_dcae_config(config)), state_dict)

    def set_model(self, model: AutoencoderDC, state_dict: dict[str, Tensor]) -> None:
        """Load the weights and give the model to the host's memory management."""
        self.vae_dtype = comfy.model_management.vae_dtype(self.device, [torch.bfloat16, torch.float32])
        check_layout(state_dict, model)
        model.load_state_dict(state_dict)
        self.first_stage_model = model.to(self.vae_dtype).requires_grad_(False).train(False)
        self.patcher = comfy.model_patcher.ModelPatcher(
            model, load_device=self.device, offload_device=comfy.model_management.vae_offload_device()
        )
        self.size = None
        self.model_size()

    def decode(self, *args, **kwargs) -> Tensor:
        warn_of_pixel_nodes(self.upscale_ratio)
        return super().decode(*args, **kwargs)

    def decode_tiled(self, *args, **kwargs) -> Tensor:
        warn_of_pixel_nodes(self.upscale_ratio)
        return super().decode_tiled(*args, **kwargs)

    def vae_encode_crop_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B,H,W,3) cut to whole cells; ValueError for less than one."""
        check_picture(pixels, self.downscale_ratio)
        return super().vae_encode_crop_pixels(pixels)

    def decode_tiled_(self, samples: Tensor, tile_x: int | None = None, tile_y: int | None = None, overlap=None):
        tile, wide = TILE // self.upscale_ratio, OVERLAP // self.upscale_ratio
        return super().decode_tiled_(samples, tile_x or tile, tile_y or tile, wide if overlap is None else overlap)

    def encode_tiled_(self, pixel_samples: Tensor, tile_x: int = TILE, tile_y: int = TILE, overlap: int = OVERLAP):
        return super().encode_tiled_(pixel_samples, tile_x, tile_y, overlap)


def check_picture(images: Tensor, ratio: int) -> None:
    """Raise ValueError for an IMAGE (B,H,W,C) that is smaller than one cell of a VAE."""
    height, width = images.shape[1:3]
    if min(height, width) < ratio:
        raise ValueError(f"image of {width}x{height} pixels: this VAE expects {ratio}x{ratio} or more")


def load_vae(path: str | os.PathLike) -> TiMVAE:
    """The VAE in a DC-AE file or folder of the diffusers layout; CheckpointError in one line."""
    file = read_vae(path)
    with prefix_errors(path):
        if file.class_name != "AutoencoderDC":
            raise CheckpointError(f"is an {file.class_name}, expected a DC-AE; load it with the stock Load VAE")
        return TiMVAE(file.config, file.state_dict)
