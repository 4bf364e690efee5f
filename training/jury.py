"""Scores of the pictures of all prompts, and of real scenes, which bound them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .classifier import ItemClassifier
from .frechet import Statistics, frechet_distance, statistics
from .judge import Accuracy, Sight, accuracy, judge, look
from .painter import Painter
from .scenes import Items, render, satisfies
from .scores import Score, score
from .tasks import TaskLine, real_scene


@dataclass(frozen=True)
class Jury:
    """Scores pictures of `lines`.

    The Fréchet distance compares the gray pictures in cells that are not empty: it tells how well and how variously
    things are drawn, whereas verdicts tell whether they are the right ones in the right cells.

    Args:
        reference: features of the things in real scenes; None for no distance.
    """

    classifier: ItemClassifier
    lines: Sequence[TaskLine]
    reference: Statistics | None = None

    def score(self, pictures: Sequence[np.ndarray]) -> Score:
        """The score of one picture (H,W,3) in bytes for each line."""
        sights = [look(picture, self.classifier) for picture in pictures]
        accepted = [satisfies(s.things, line.requirement) for s, line in zip(sights, self.lines, strict=True)]
        found = feature_statistics(sights)
        known = found is not None and self.reference is not None
        return score(accepted, self.lines, frechet_distance(found, self.reference) if known else None)


def feature_statistics(sights: Sequence[Sight]) -> Statistics | None:
    """Of the features of all things; None for fewer than 2."""
    features = torch.cat([sight.features for sight in sights])
    return statistics(features) if len(features) > 1 else None


@dataclass(frozen=True)
class Real:
    """What is made of real scenes that show what the prompts ask for.

    Args:
        reference: features of the things in them.
        accuracy: the judge's.
        bound, reconstructed: scores of as many other scenes, and of these after their way through the VAE, which no
            model can be expected to beat; their distances are due to the choice of scenes, and to the VAE.
    """

    reference: Statistics | None
    accuracy: Accuracy
    bound: Score
    reconstructed: Score


def judge_real(items: Items, classifier: ItemClassifier, painter: Painter) -> Real:
    """Judge scenes of `items` for the painter's prompts."""
    lines, seed = painter.lines, painter.seed
    scenes, others = ([real_scene(line, i, s) for i, line in enumerate(lines)] for s in (seed, seed + 1))
    reference = feature_statistics([look(render(scene, items), classifier) for scene in others])
    pictures = [render(scene, items) for scene in scenes]
    found = accuracy(scenes, [judge(picture, classifier) for picture in pictures])
    jury = Jury(classifier, lines, reference)
    return Real(reference, found, jury.score(pictures), jury.score([painter.reconstruct(p) for p in pictures]))
