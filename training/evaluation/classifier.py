"""A small classifier of Fashion-MNIST items: it scores samples, and its features give their Fréchet distance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tim_model.checkpoint import metadata_json
from tim_model.files.tensor_files import (
    CheckpointError,
    check_layout,
    prefix_errors,
    read_safetensors,
    write_safetensors,
)

from ..data.idx import read_split
from ..objectives.draws import Draws

SIDE = 32  # pixels of a classified image; items have 28
NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
BATCH = 256


class ItemClassifier(nn.Module):
    """Gray images (B,1,32,32) in [0, 1], black background, to logits of the classes.

    Args:
        class_names: in the order of the labels.
        width: channels of the first layer; the features have four times as many.
    """

    def __init__(self, class_names: tuple[str, ...] = NAMES, width: int = 32):
        super().__init__()
        self.class_names = class_names
        plan = [
            (1, width, 2), (width, 2 * width, 1), (2 * width, 2 * width, 2),
            (2 * width, 4 * width, 1), (4 * width, 4 * width, 2), (4 * width, 4 * width, 1),
        ]  # fmt: skip
        self.layers = nn.Sequential(*(convolution(*layer) for layer in plan))
        self.head = nn.Linear(4 * width, len(class_names))

    def features(self, gray: Tensor) -> Tensor:
        """The features before the last layer, (B, 4 width)."""
        return self.layers(2 * gray - 1).mean(dim=(2, 3))

    def forward(self, gray: Tensor) -> Tensor:
        return self.head(self.features(gray))


def convolution(inputs: int, outputs: int, stride: int) -> nn.Module:
    kernel = 5 if inputs == 1 else 3
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )


def read_items(folder: str | Path, split: str) -> tuple[Tensor, Tensor]:
    """The images (N,1,32,32) uint8, padded with black, and labels (N,) of "train" or "test".

    Raises:
        ValueError: a missing or broken file, see `read_split`.
    """
    images, labels = read_split(folder, split)
    margin = (SIDE - images.shape[-1]) // 2
    return F.pad(torch.tensor(images), [margin] * 4)[:, None], torch.from_numpy(labels.astype(np.int64))


def train_classifier(images: Tensor, labels: Tensor, epochs: int = 12, seed: int = 0) -> ItemClassifier:
    """A trained classifier; images are randomly shifted, mirrored, blurred and darkened.

    Args:
        images: (N,1,32,32) uint8.
        labels: (N,), places in `NAMES`.
    """
    torch.manual_seed(seed)
    net = ItemClassifier().to(memory_format=torch.channels_last)
    steps = epochs * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for step in range(steps):
        draws = Draws(seed, step, range(BATCH))
        rows = (draws.uniform("rows") * len(images)).long()
        gray = augment(images[rows] / 255, draws)
        loss = F.cross_entropy(net(gray), labels[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.to(memory_format=torch.contiguous_format).train(False).requires_grad_(False)


def augment(gray: Tensor, draws: Draws) -> Tensor:
    """Each image shifted by up to 2 pixels, half of them mirrored, blurred and darkened to some degree.

    Samples and decoded latents are blurrier than real images; that must not change their class.
    """
    shifts = (draws.uniform("shift", (2,)) * 5).long().tolist()
    mirrored = (draws.uniform("mirror") < 0.5).tolist()
    padded = F.pad(gray, (2, 2, 2, 2))
    moved = [image[:, y : y + SIDE, x : x + SIDE] for image, (y, x) in zip(padded, shifts, strict=True)]
    gray = torch.stack([image.flip(-1) if flip else image for image, flip in zip(moved, mirrored, strict=True)])
    softness, light = (2 * draws.uniform(name, (1, 1, 1)) - 1 for name in ("soft", "light"))
    gray = torch.lerp(gray, soften(gray), softness.clamp(min=0))
    return gray * (1 - 0.5 * light.clamp(min=0))


def soften(gray: Tensor) -> Tensor:
    """Images (B,1,H,W) blurred by a standard deviation of one pixel."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    return F.conv2d(gray, torch.outer(row, row)[None, None], padding=2)


@torch.no_grad()
def classify(net: ItemClassifier, gray: Tensor, batch: int = 512) -> tuple[Tensor, Tensor]:
    """Logits (N,classes) and features (N,D) of images (N,1,32,32), uint8 or in [0, 1]."""
    parts = gray.split(batch)
    features = torch.cat([net.features(part / 255 if part.dtype == torch.uint8 else part) for part in parts])
    return net.head(features), features


def save_classifier(net: ItemClassifier, path: str | Path) -> None:
    """Write the weights with the class names."""
    tensors = {name: value.contiguous() for name, value in net.state_dict().items()}
    write_safetensors(tensors, path, {"class_names": json.dumps(net.class_names)})


def load_classifier(path: str | Path) -> ItemClassifier:
    """The classifier of a file.

    Raises:
        CheckpointError: missing, broken, or the file of something else.
    """
    with prefix_errors(path):
        if not Path(path).is_file():
            raise CheckpointError("no such file, expected one of training.classifier")
        tensors, metadata = read_safetensors(Path(path))
        names = metadata_json(metadata, "class_names", [])
        if not names or "layers.0.0.weight" not in tensors:
            raise CheckpointError("is no classifier of items, expected a file of training.classifier")
        net = ItemClassifier(tuple(names), len(tensors["layers.0.0.weight"]))
        check_layout(tensors, net)
    net.load_state_dict(tensors)
    return net.float().train(False).requires_grad_(False)


def accuracy(net: ItemClassifier, images: Tensor, labels: Tensor) -> float:
    """Share of images (N,1,32,32) whose class is recognized."""
    return float((classify(net, images)[0].argmax(dim=1) == labels).float().mean())
