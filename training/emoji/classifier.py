"""A small classifier of things: which one a square shows, in which color and style; it judges samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tim_model.files.errors import CheckpointError, metadata_json, prefix_errors
from tim_model.files.tensor_files import check_layout, read_safetensors, write_safetensors

from .things import COLORS, STYLES, THINGS

SIDE = 64  # pixels of a judged square
NOTHING, SEVERAL = "nothing", "several"  # an empty square, and parts of things or more than one
CLASSES = (*THINGS, NOTHING, SEVERAL)


class Answer(NamedTuple):
    """Logits (N,classes), (N,colors), (N,styles) of squares, and their features (N,D)."""

    item: Tensor
    color: Tensor
    style: Tensor
    features: Tensor


class ThingClassifier(nn.Module):
    """Squares (B,3,64,64) in [-1, 1] to an `Answer`.

    Args:
        class_names: of the items, in the order of the logits.
        width: channels of the first layer; the features have eight times as many.
    """

    def __init__(self, class_names: tuple[str, ...] = CLASSES, width: int = 24):
        super().__init__()
        self.class_names = class_names
        plan = [
            (3, width, 2), (width, 2 * width, 2), (2 * width, 2 * width, 1),
            (2 * width, 4 * width, 2), (4 * width, 4 * width, 1), (4 * width, 8 * width, 2),
        ]  # fmt: skip
        self.layers = nn.Sequential(*(convolution(*layer) for layer in plan))
        self.item = nn.Linear(8 * width, len(class_names))
        self.color = nn.Linear(8 * width, len(COLORS))
        self.style = nn.Linear(8 * width, len(STYLES))

    def forward(self, squares: Tensor) -> Answer:
        features = self.layers(squares).mean(dim=(2, 3))
        return Answer(self.item(features), self.color(features), self.style(features), features)


def convolution(inputs: int, outputs: int, stride: int) -> nn.Module:
    kernel = 5 if inputs == 3 else 3
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )


@torch.no_grad()
def classify(net: ThingClassifier, squares: Tensor, batch: int = 256) -> Answer:
    """The answer to squares (N,3,64,64), bytes."""
    parts = [net(part / 127.5 - 1) for part in squares.split(batch)]
    return Answer(*(torch.cat(group) for group in zip(*parts, strict=True)))


def save_classifier(net: ThingClassifier, path: str | Path) -> None:
    """Write the weights in float16, with the names of the classes."""
    tensors = {name: half(value) for name, value in net.state_dict().items()}
    write_safetensors(tensors, path, {"class_names": json.dumps(net.class_names)})


def half(value: Tensor) -> Tensor:
    return (value.half() if value.is_floating_point() else value).contiguous()


def load_classifier(path: str | Path) -> ThingClassifier:
    """The classifier of a file.

    Raises:
        CheckpointError: missing, broken, or the file of something else.
    """
    with prefix_errors(path):
        if not Path(path).is_file():
            raise CheckpointError("no such file, expected one of training.emoji classifier")
        tensors, metadata = read_safetensors(Path(path))
        names = tuple(metadata_json(metadata, "class_names", []))
        if names != CLASSES or "layers.0.0.weight" not in tensors:
            raise CheckpointError("is no classifier of these things, expected a file of training.emoji classifier")
        net = ThingClassifier(names, len(tensors["layers.0.0.weight"]))
        check_layout(tensors, net)
    net.load_state_dict(tensors)
    return net.float().train(False).requires_grad_(False)
