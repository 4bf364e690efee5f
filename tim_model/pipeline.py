"""From a label to pictures, without a node graph."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from .checkpoint import build_net, read_checkpoint
from .labels import label_index
from .latents import LatentSpace, latent_shape
from .net import TiM
from .noise import draw_noise, noise_stream
from .sampling import sample


def best_device() -> torch.device:
    """CUDA (or ROCm) where there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


class TiMPipeline:
    """A network and what it needs around it. Pictures are (B,3,H,W) in [-1, 1].

    Args:
        space: where the network lives.
        class_names: of a class model's labels, where known.
    """

    def __init__(self, net: TiM, space: LatentSpace, class_names: Sequence[str] = ()):
        self.net = net
        self.space = space
        self.class_names = class_names

    @classmethod
    def from_files(
        cls,
        model: str | os.PathLike,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> TiMPipeline:
        """Load a checkpoint; `device` is the best one by default, `dtype` bfloat16 on a GPU and float32 on a CPU."""
        device = torch.device(device or best_device())
        dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
        checkpoint = read_checkpoint(model)
        return cls(build_net(checkpoint, device, dtype), checkpoint.latent_space, checkpoint.class_names)

    @property
    def device(self) -> torch.device:
        return self.net.x_embedder.proj.weight.device

    def labels(self, names: Sequence[str]) -> Tensor:
        """Labels (B,) of class names or numbers; ValueError for a text model or an unknown class."""
        if self.net.params.num_classes is None:
            raise ValueError("this is a text model: give it a prompt instead of a class")
        indices = [label_index(name, self.net.params.num_classes, self.class_names) for name in names]
        return torch.tensor(indices, device=self.device)

    def noise(self, size: tuple[int, int], batch: int, seed: int) -> Tensor:
        """The start of sampling for `batch` pictures of (width, height) pixels; ValueError for a size that won't do."""
        shape = latent_shape(self.space, self.net.params.patch_size, *size, batch)
        return draw_noise(shape, seed).to(self.device)

    def __call__(
        self, classes: Sequence[str], times: Sequence[float], size: tuple[int, int], seed: int = 0, **sampling
    ) -> Tensor:
        """One picture for each of `classes` (numbers or names).

        Args:
            times: as for `sample`.
            size: (width, height) in pixels.
            sampling: further arguments of `sample`, such as cfg.

        Raises:
            ValueError: anything that does not fit the model, in one line.
        """
        labels = self.labels(classes)
        noise = self.noise(size, len(classes), seed)
        return self.decode(sample(self.net, noise, times, labels, noise_fn=noise_stream(seed), **sampling))

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents; only pixel-space models need no VAE."""
        if self.space.ratio != 1:
            raise ValueError(f"this model's latents have {self.space.channels} channels: it needs a VAE to make pictures")
        return latents
