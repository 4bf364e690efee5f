"""Draws the pictures of prompts, at any number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tim_model import TiMPipeline, make_times, sample
from tim_model.latents import latent_shape
from tim_model.pictures import to_pictures
from tim_model.pipeline import Condition

from .tasks import TaskLine
from .times import Draws


@dataclass(frozen=True)
class Painter:
    """A model and the prompts that it draws.

    A prompt's noise is a pure function of seed and place in the list, whatever the number of steps and the guidance
    scale, and all prompts are padded to the longest of the list: how they are batched changes no picture.

    Args:
        condition: features of all prompts, from `TiMPipeline.text`.
        batch: pictures drawn at once, all of one size.
        velocity: give the network r = t, for flow-matching checkpoints.
    """

    pipeline: TiMPipeline
    lines: Sequence[TaskLine]
    condition: Condition
    seed: int = 0
    batch: int = 32
    velocity: bool = False

    def batches(self) -> list[tuple[list[int], tuple[int, ...]]]:
        """Places in the list with pictures of one size, and the shape (B,C,H,W) of their latents.

        Raises:
            ValueError: a size that the model cannot have.
        """
        sizes = [(line.width, line.height) for line in self.lines]
        groups = {size: [i for i, other in enumerate(sizes) if other == size] for size in sizes}
        parts = [
            (size, places[start : start + self.batch])
            for size, places in groups.items()
            for start in range(0, len(places), self.batch)
        ]
        space, patch_size = self.pipeline.space, self.pipeline.net.params.patch_size
        return [(places, latent_shape(space, patch_size, *size, len(places))) for size, places in parts]

    def draw(self, steps: int, cfg: float, bar: tqdm) -> list[np.ndarray]:
        """Pictures of all prompts in their order, bytes (H,W,3); `bar` counts the steps of each."""
        pictures: dict[int, np.ndarray] = {}
        for places, shape in self.batches():
            noise = Draws(self.seed, 0, places).normal("noise", shape[1:]).to(self.pipeline.device)
            self.pipeline.make_room(shape)
            x = sample(
                self.pipeline.net, noise, make_times("uniform", steps), *(c[places] for c in self.condition), cfg=cfg,
                velocity=self.velocity, callback=lambda step: bar.update(len(step.x_t)),
            )  # fmt: skip
            pictures |= zip(places, to_bytes(self.pipeline.decode(x)), strict=True)
        return [pictures[i] for i in range(len(self.lines))]

    def reconstruct(self, picture: np.ndarray) -> np.ndarray:
        """A picture, bytes (H,W,3), after its way through the VAE; in pixel space as it was."""
        vae = self.pipeline.vae
        if vae is None:
            return picture
        image = torch.tensor(picture).permute(2, 0, 1)[None] / 127.5 - 1
        return to_bytes(vae.decode(vae.encode(image)))[0]


def to_bytes(images: Tensor) -> list[np.ndarray]:
    """Bytes (H,W,3) of each of the images (B,3,H,W) in [-1, 1]."""
    return [np.asarray(picture) for picture in to_pictures(images)]
