"""Generates the images of prompts with any number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tim_model import TiMPipeline, make_times, sample
from tim_model.images import to_pictures
from tim_model.network.latent_space import latent_shape

from ..objectives.draws import Draws
from ..scenes.prompts import Prompt


@dataclass(frozen=True)
class PromptSampler:
    """A model and its prompts.

    A prompt's noise is a pure function of the seed and its index in the list, for every number of steps and guidance
    scale, and all prompts are padded to the longest one, so that images do not depend on the batches.

    Args:
        condition: (context, null context) of all prompts, from `TiMPipeline.text`.
        batch: number of images per batch, all of one size.
        velocity: give the network r = t, for flow-matching checkpoints.
    """

    pipeline: TiMPipeline
    prompts: Sequence[Prompt]
    condition: Sequence[Tensor]
    seed: int = 0
    batch: int = 32
    velocity: bool = False

    def batches(self) -> list[tuple[list[int], tuple[int, ...]]]:
        """Indices of prompts with one image size, and the shape (B,C,H,W) of their latents.

        Raises:
            ValueError: a size that the model cannot have.
        """
        sizes = [(prompt.width, prompt.height) for prompt in self.prompts]
        groups = {size: [i for i, other in enumerate(sizes) if other == size] for size in sizes}
        parts = [
            (size, places[start : start + self.batch])
            for size, places in groups.items()
            for start in range(0, len(places), self.batch)
        ]
        space, patch_size = self.pipeline.space, self.pipeline.net.params.patch_size
        return [(places, latent_shape(space, patch_size, *size, len(places))) for size, places in parts]

    def draw(self, steps: int, cfg: float, bar: tqdm) -> list[np.ndarray]:
        """Images of all prompts in their order, bytes (H,W,3); `bar` counts the steps of each."""
        images: dict[int, np.ndarray] = {}
        for places, shape in self.batches():
            noise = Draws(self.seed, 0, places).normal("noise", shape[1:]).to(self.pipeline.device)
            self.pipeline.make_room(shape)
            x = sample(
                self.pipeline.net, noise, make_times("uniform", steps), *(c[places] for c in self.condition), cfg=cfg,
                velocity=self.velocity, callback=lambda step: bar.update(len(step.x_t)),
            )  # fmt: skip
            images |= zip(places, to_bytes(self.pipeline.decode(x)), strict=True)
        return [images[i] for i in range(len(self.prompts))]

    def reconstruct(self, image: np.ndarray) -> np.ndarray:
        """An image, bytes (H,W,3), encoded and decoded by the VAE; unchanged in pixel space."""
        vae = self.pipeline.vae
        if vae is None:
            return image
        pixels = torch.tensor(image).permute(2, 0, 1)[None] / 127.5 - 1
        return to_bytes(vae.decode(vae.encode(pixels)))[0]


def to_bytes(images: Tensor) -> list[np.ndarray]:
    """Images (B,3,H,W) in [-1, 1] as a list of bytes (H,W,3)."""
    return [np.asarray(image) for image in to_pictures(images)]
