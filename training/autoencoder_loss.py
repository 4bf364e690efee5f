"""What an autoencoder is trained towards: sharp pictures, and latents that a diffusion model can learn."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tim_model.vae import VAE

from .times import Draws


@dataclass(frozen=True)
class LossConfig:
    """Weights of the parts of the loss, and the noise on latents."""

    l1: float = 0.5
    l2: float = 2.0  # finds colors and shapes long before L1 does; L1 then makes them crisp
    gradient: float = 0.25  # of `gradient_penalty`
    moments: float = 0.1  # of `moment_penalty`
    noise: float = 0.3  # latents are decoded with noise of a standard deviation up to this


@dataclass(frozen=True)
class AutoencoderLoss:
    """Scalars: what is minimized, and its parts without their weights."""

    total: Tensor
    l1: Tensor
    l2: Tensor
    gradient: Tensor
    moments: Tensor


def autoencoder_loss(model: nn.Module, images: Tensor, config: LossConfig, draws: Draws) -> AutoencoderLoss:
    """The loss of diffusers' AutoencoderDC on images (B,3,H,W) in [-1, 1].

    Args:
        draws: random numbers for B rows; each picture gets its own level of noise.
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
    """Mean absolute difference of neighboring pixels, across plus down, of an error (B,C,H,W): blurred edges cost."""
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def moment_penalty(z: Tensor) -> Tensor:
    """How far each channel of latents (B,C,h,w) is from zero mean and unit variance: mean of mu^2 + (sigma - 1)^2."""
    sigma, mu = torch.std_mean(z, dim=(0, 2, 3), correction=0)
    return (mu.square() + (sigma - 1).square()).mean()


@dataclass(frozen=True)
class Quality:
    """What an autoencoder makes of pictures: PSNR in dB, and each latent channel's moments (C,)."""

    psnr: float
    noisy_psnr: float  # with noise of standard deviation `NOISE` on the latents
    mean: Tensor
    std: Tensor


NOISE = 0.1


def measure(vae: VAE, batches: Iterable[Tensor]) -> Quality:
    """The quality of a VAE on batches (B,3,H,W) of pictures in [-1, 1]."""
    latents, clean, noisy = [], [], []
    for i, images in enumerate(batches):
        z = vae.encode(images)
        noise = Draws(0, i, range(len(z))).normal("noise", z.shape[1:]).to(z)
        latents.append(z.movedim(1, 0).flatten(1))
        clean.append(squared_error(vae.decode(z), images))
        noisy.append(squared_error(vae.decode(z + NOISE * noise), images))
    std, mean = torch.std_mean(torch.cat(latents, dim=1), dim=1)
    return Quality(psnr(torch.cat(clean)), psnr(torch.cat(noisy)), mean.cpu(), std.cpu())


def squared_error(decoded: Tensor, images: Tensor) -> Tensor:
    return F.mse_loss(decoded.clamp(-1, 1), images, reduction="none").flatten()


def psnr(squared_errors: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of all squared errors together, of values in [-1, 1]."""
    return 10 * math.log10(4 / max(float(squared_errors.mean()), 1e-12))
