"""The recognizer of each kind of scenes: checks whether an image satisfies its prompt, and makes real scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from ..emoji import classifier as emoji_classifier
from ..emoji import prompts as emoji_prompts
from ..emoji import recognizer as emoji_recognizer
from ..emoji import render as emoji_render
from ..emoji import scene as emoji_scene
from ..emoji.drawings import Drawings
from ..scenes.captions import ITEMS
from ..scenes.prompts import Prompt, real_scene
from ..scenes.scene import Items, render, satisfies
from .classifier import ItemClassifier, load_classifier
from .recognizer import Accuracy, accuracy, recognize


class Verdict(NamedTuple):
    """Whether an image satisfies its prompt, and the features (things, D) of the things in it."""

    accepted: bool
    features: Tensor


class SceneRecognizer(Protocol):
    """Recognizes images of one kind of scenes; `data` is the source of real scenes."""

    def verdict(self, image: np.ndarray, prompt: Prompt) -> Verdict: ...

    def real(self, prompt: Prompt, index: int, seed: int, data: object) -> tuple[object, np.ndarray]:
        """A scene that satisfies a prompt, and its image."""

    def accuracy(self, scenes: Sequence, images: Sequence[np.ndarray]) -> Accuracy:
        """How well the things of scenes are recognized in their images."""


@dataclass(frozen=True)
class FashionRecognizer:
    """The recognizer of FashionScenes; its data are `Items`."""

    classifier: ItemClassifier

    def verdict(self, image: np.ndarray, prompt: Prompt) -> Verdict:
        found = recognize(image, self.classifier)
        return Verdict(satisfies(found.things, prompt.requirement), found.features)

    def real(self, prompt: Prompt, index: int, seed: int, data: Items) -> tuple[object, np.ndarray]:
        scene = real_scene(prompt, index, seed)
        return scene, render(scene, data)

    def accuracy(self, scenes: Sequence, images: Sequence[np.ndarray]) -> Accuracy:
        found = [recognize(image, self.classifier).things for image in images]
        return accuracy([scene.things for scene in scenes], found, [scene.columns * scene.rows for scene in scenes])


@dataclass(frozen=True)
class EmojiRecognizer:
    """The recognizer of EmojiScenes; its data are `Drawings`. Colors are scored for tinted things."""

    classifier: emoji_classifier.ThingClassifier

    def verdict(self, image: np.ndarray, prompt: Prompt) -> Verdict:
        found = emoji_recognizer.recognize(image, self.classifier)
        accepted = emoji_scene.satisfies(found.things, found.background, prompt.requirement)
        return Verdict(accepted, found.features)

    def real(self, prompt: Prompt, index: int, seed: int, data: Drawings) -> tuple[object, np.ndarray]:
        scene = emoji_prompts.real_scene(prompt, index, seed)
        return scene, emoji_render.render(scene, data)

    def accuracy(self, scenes: Sequence, images: Sequence[np.ndarray]) -> Accuracy:
        found = [emoji_recognizer.recognize(image, self.classifier).things for image in images]
        true = [emoji_prompts.shown(scene) for scene in scenes]
        return accuracy(true, found, [scene.columns * scene.rows for scene in scenes])


def load_fashion_recognizer(path: Path) -> FashionRecognizer:
    """The recognizer with the classifier of a file; ValueError for one with other labels than Fashion-MNIST's."""
    classifier = load_classifier(path)
    if len(classifier.class_names) <= max(ITEMS.values()):
        raise ValueError(f"{path}: has {len(classifier.class_names)} classes, expected Fashion-MNIST's 10")
    return FashionRecognizer(classifier)


def load_emoji_recognizer(path: Path) -> EmojiRecognizer:
    """The recognizer with the classifier of a file; ValueError for one of other things."""
    return EmojiRecognizer(emoji_classifier.load_classifier(path))
