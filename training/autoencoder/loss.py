"""The loss of an autoencoder: sharp images, and latents that a diffusion model can learn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from kornia.metrics import psnr, ssim
from torch import Tensor, nn

from tim_model.vae.autoencoder import VAE

from ..objectives.draws import Draws


@dataclass(frozen=True)
class LossConfig:
    """Weights of the parts of the loss, and the noise on latents."""

    l1: float = 0.5
    l2: float = 2.0  # learns colors and shapes long before L1 does; L1 then sharpens them
    gradient: float = 0.25  # of `gradient_penalty`
    moments: float = 0.1  # of `moment_penalty`
    noise: float = 0.3  # largest standard deviation of noise that is added to latents before decoding


@dataclass(frozen=True)
class AutoencoderLoss:
    """Scalars: the total loss, and its unweighted parts."""

    total: Tensor
    l1: Tensor
    l2: Tensor
    gradient: Tensor
    moments: Tensor


def autoencoder_loss(model: nn.Module, images: Tensor, config: LossConfig, draws: Draws) -> AutoencoderLoss:
    """The loss of diffusers' AutoencoderDC on images (B,3,H,W) in [-1, 1].

    Args:
        draws: random numbers for B rows; each image gets its own level of noise.
    """
    (z,) = model.encode(images, return_dict=False)
    z = z.float()
    level = config.noise * draws.uniform("level", (1, 1, 1)).to(z)
    (decoded,) = model.decode(z + level * draws.normal("noise", z.shape[1:]).to(z), return_dict=False)
    error = decoded.float() - images
    parts = {
        "l1": error.abs().mean(),
        "l2": error.square().mean(),
        "gradient": gradient_penalty(error),
        "moments": moment_penalty(z),
    }
    total = sum(getattr(config, name) * part for name, part in parts.items())
    return AutoencoderLoss(total=total, **parts)


def gradient_penalty(error: Tensor) -> Tensor:
    """Mean absolute gradient, horizontal plus vertical, of an error (B,C,H,W); penalizes blurred edges."""
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def moment_penalty(z: Tensor) -> Tensor:
    """How far each channel of latents (B,C,h,w) is from zero mean and unit variance: mean of mu^2 + (sigma - 1)^2."""
    sigma, mu = torch.std_mean(z, dim=(0, 2, 3), correction=0)
    return (mu.square() + (sigma - 1).square()).mean()


@dataclass(frozen=True)
class Quality:
    """The quality of an autoencoder: PSNR in dB, SSIM, and each latent channel's moments (C,)."""

    psnr: float
    ssim: float
    noisy_psnr: float  # with noise of standard deviation `NOISE` on the latents
    mean: Tensor
    std: Tensor


NOISE = 0.1
SSIM_WINDOW = 11  # pixels, as in the paper (Wang et al. 2004)


def measure(vae: VAE, batches: Iterable[Tensor]) -> Quality:
    """The quality of a VAE on batches (B,3,H,W) of images in [-1, 1]; PSNR is over all pixels together."""
    latents, originals, clean, noisy, similar = [], [], [], [], []
    for i, images in enumerate(batches):
        z = vae.encode(images)
        noise = Draws(0, i, range(len(z))).normal("noise", z.shape[1:]).to(z)
        shown, decoded, blurred = (to_unit(x) for x in (images, vae.decode(z), vae.decode(z + NOISE * noise)))
        latents.append(z.movedim(1, 0).flatten(1))
        originals.append(shown.flatten())
        clean.append(decoded.flatten())
        noisy.append(blurred.flatten())
        similar.append(ssim(decoded, shown, SSIM_WINDOW).mean(dim=(1, 2, 3)))
    std, mean = torch.std_mean(torch.cat(latents, dim=1), dim=1)
    plain, disturbed = (float(psnr(torch.cat(found), torch.cat(originals), 1.0)) for found in (clean, noisy))
    return Quality(plain, float(torch.cat(similar).mean()), disturbed, mean.cpu(), std.cpu())


def to_unit(images: Tensor) -> Tensor:
    """Images in about [-1, 1] as values in [0, 1]."""
    return (images.clamp(-1, 1) + 1) / 2
