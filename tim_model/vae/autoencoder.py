"""Images to latents and back: a DC-AE or SD-VAE, which diffusers computes."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from ..files.errors import CheckpointError, one_line, prefix_errors
from ..files.tensor_files import check_layout
from .files import cite_source, read_vae


class VAE:
    """A frozen autoencoder of images (B,3,H,W) in [-1, 1].

    Latents are (B,channels,H/ratio,W/ratio) and carry the scaling factor already.

    Args:
        model: diffusers' AutoencoderDC or AutoencoderKL.
    """

    def __init__(self, model: nn.Module):
        self.model = model.requires_grad_(False).train(False)

    @property
    def ratio(self) -> int:
        """Pixels per latent cell and side."""
        config = self.model.config
        widths = config.get("encoder_block_out_channels") or config["block_out_channels"]
        return 2 ** (len(widths) - 1)

    @property
    def channels(self) -> int:
        """Latent channels."""
        return self.model.config["latent_channels"]

    @property
    def scaling_factor(self) -> float:
        """What the model's raw latents are multiplied by."""
        return self.model.config["scaling_factor"]

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in; images and latents are float32."""
        return next(self.model.parameters()).dtype

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Scaled latents, float32, of images; of an SD-VAE the mode of its posterior, not a sample.

        Raises:
            ValueError: not (B,3,H,W), or sides that are no multiples of `ratio`.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images have shape {tuple(images.shape)}, expected (B, 3, H, W)")
        height, width = images.shape[-2:]
        if not height or not width or height % self.ratio or width % self.ratio:
            near = "x".join(str(max(1, side // self.ratio) * self.ratio) for side in (width, height))
            raise ValueError(
                f"images of {width}x{height} pixels: expected multiples of {self.ratio} for this VAE; "
                f"resize or crop them, for example to {near}"
            )
        (encoded,) = self.model.encode(self._cast(images), return_dict=False)
        latents = encoded if isinstance(encoded, Tensor) else encoded.mode()
        return latents.float() * self.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images, float32, of scaled latents: about [-1, 1], not clamped.

        Raises:
            ValueError: not (B,channels,h,w).
        """
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            raise ValueError(f"latents have shape {tuple(latents.shape)}, expected (B, {self.channels}, h, w)")
        (images,) = self.model.decode(self._cast(latents.float() / self.scaling_factor), return_dict=False)
        return images.float()

    def _cast(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype)


def load_vae(path: str | os.PathLike, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> VAE:
    """The VAE in a file or folder; see `read_vae` for what is read.

    Args:
        device, dtype: where the weights go; dtype is that of the file by default.

    Raises:
        CheckpointError: the file is anything else, or broken; the message is one line.
        ValueError: diffusers is not installed.
    """
    model = build_vae(path)
    dtype = dtype or model.dtype
    return VAE(nn.Module.to(model, device, dtype))  # the `to` of diffusers logs a needless warning


def build_vae(path: str | os.PathLike) -> nn.Module:
    """The model of diffusers in a file or folder, on the CPU; its weights are those read, not copies."""
    file = read_vae(path)
    model_class = diffusers_class(file.class_name)
    with cite_source(), prefix_errors(path):
        try:
            with torch.device("meta"):
                model = model_class.from_config(file.config)
        except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"has a config that makes no {file.class_name} ({one_line(error)})") from None
        check_layout(file.state_dict, model)
    model.load_state_dict(file.state_dict, assign=True)
    return model


def diffusers_class(name: str) -> type:
    """A class of diffusers, which is optional; ValueError where it cannot be imported."""
    try:
        import diffusers

        return getattr(diffusers, name)
    except (ImportError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"a VAE outside ComfyUI needs a current diffusers ({one_line(error)}): "
            'pip install "comfyui-tim[standalone]" or pip install -U diffusers'
        ) from None
