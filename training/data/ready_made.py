"""Datasets that need no encoding: class latents, and the files of MNIST."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..config.data_schema import DataConfig
from .dataset import Dataset, Sample
from .idx import read_idx
from .inspection import Inspection
from .labels import KnownClasses, number_classes


@dataclass(frozen=True)
class LatentDataset(Dataset):
    """One safetensors file for each image: `latent` (2,C,h,w), original and mirrored, and `label`."""

    latent = True
    folder: Path = field(kw_only=True)

    def read(self, i: int, mirrored: bool) -> Tensor:
        return load_file(self.folder / self.samples[i].name)["latent"][int(mirrored)].float()


@dataclass(frozen=True)
class IdxDataset(Dataset):
    """Gray images (N,H,W) in bytes, padded with black to the size of their bucket."""

    images: np.ndarray = field(kw_only=True, repr=False)

    def read(self, i: int, mirrored: bool) -> Tensor:
        _, height, width = self.images.shape
        (side, _), image = self.samples[i].bucket, torch.from_numpy(self.images[i] / np.float32(127.5) - 1)
        top, left = (side - height) // 2, (side - width) // 2
        canvas = torch.full((3, side, side), -1.0)
        canvas[:, top : top + height, left : left + width] = image
        return canvas.flip(-1) if mirrored else canvas


def latent_dataset(
    folder: Path, inspections: dict[Path, Inspection], config: DataConfig, patch_size: int, known: KnownClasses | None
) -> LatentDataset:
    """The released class-latent layout: one safetensors file for each image."""
    channels = Counter(i.channels for i in inspections.values() if not i.problem).most_common(1)
    samples, dropped = [], []
    for path, found in inspections.items():
        name = path.relative_to(folder).as_posix()
        if reason := latent_problem(found, channels, patch_size):
            dropped.append((name, reason))
        else:
            samples.append(Sample(name, found.digest, (found.width, found.height), (), found.label))

    classes = number_classes((), config.class_names, known)
    width = channels[0][0] if channels else 0
    return LatentDataset("latents", samples, dropped, classes.names, width, notes=classes.notes, folder=folder)


def latent_problem(found: Inspection, channels: list[tuple[int, int]], patch_size: int) -> str:
    """Why a latent file cannot be used, "" if it can."""
    if found.problem:
        return found.problem
    if found.channels != channels[0][0]:
        return f"has {found.channels} channels, expected {channels[0][0]} as most files"
    if found.width % patch_size or found.height % patch_size:
        return f"has {found.width}x{found.height} cells, expected multiples of the patch size {patch_size}"
    return ""


def idx_dataset(
    folder: Path, image_files: Sequence[Path], config: DataConfig, known: KnownClasses | None
) -> IdxDataset:
    """The files of (Fashion-)MNIST: gray images, padded with black to `config.resolution` a side.

    Raises:
        ValueError: no file of images for training among `image_files`, or files that do not fit.
    """
    images_file = next((path for path in image_files if path.name.startswith("train")), None)
    if images_file is None:
        raise ValueError(f"data.path={folder}: no train-images-idx3-ubyte(.gz), expected the files of Fashion-MNIST")
    labels_file = images_file.with_name(images_file.name.replace("images-idx3", "labels-idx1"))
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    count, height, width = images.shape
    side = config.resolution
    if len(labels) != count or max(height, width) > side:
        raise ValueError(
            f"{images_file}: {count} images of {width}x{height} and {len(labels)} labels, expected as many labels "
            f"and images within data.resolution={side}"
        )
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    names = [f"{images_file.name}#{i}" for i in range(count)]
    samples = [Sample(n, f"{digest}#{n}", (side, side), (), int(k)) for n, k in zip(names, labels, strict=True)]

    classes = number_classes((), config.class_names, known)
    return IdxDataset("idx", samples, [], classes.names, notes=classes.notes, images=images)
