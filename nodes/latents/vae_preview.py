"""Previews of sampling by a VAE that is small enough to decode every step."""

from __future__ import annotations

import os

import torch
from comfy.ldm.ace.vae.autoencoder_dc import AutoencoderDC
from torch import Tensor

from ...tim_model.vae.dcae import host_dcae_config
from ...tim_model.vae.files import read_vae

LARGEST = 256  # cells of a latent; more of them get the colors alone


class VAEPreview:
    """Decoded latents in the form that the host's previews have: a latent whose linear colors are the image.

    The host calls it as `latent_rgb_factors_reshape`, and then multiplies by the factors. Whatever shows previews
    without calling it still gets the factors' own colors.

    Args:
        path: of a DC-AE file; it is read when the first preview is due.
        factors, bias: (C,3) of rank 3 and (3,), the linear colors.
    """

    def __init__(self, path: str | os.PathLike, factors: list[list[float]], bias: list[float]):
        self.path = path
        self.to_latent = torch.linalg.pinv(torch.tensor(factors))
        self.bias = torch.tensor(bias)
        self.vae: AutoencoderDC | None = None

    def __call__(self, latents: Tensor) -> Tensor:
        """(B,C,h,w) -> (1,C,H,W) of the first image; unchanged where it has more than `LARGEST` cells."""
        if latents.shape[-2] * latents.shape[-1] > LARGEST:
            return latents
        if self.vae is None:
            self.vae = load_decoder(self.path).to(latents.device)
        image = self.vae.decode(latents[:1].float()).movedim(1, -1)
        return ((image - self.bias.to(image)) @ self.to_latent.to(image)).movedim(-1, 1)


def load_decoder(path: str | os.PathLike) -> AutoencoderDC:
    """The VAE of a file in float32, of which previews only decode."""
    file = read_vae(path)
    vae = AutoencoderDC(**host_dcae_config(file.config))
    vae.load_state_dict(file.state_dict)
    return vae.float().requires_grad_(False).train(False)
