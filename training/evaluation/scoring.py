"""Scores of generated images, and of real scenes as their upper bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..scenes.prompts import Prompt
from .drawing import PromptSampler
from .frechet import Statistics, frechet_distance, statistics
from .recognizer import Accuracy, Recognition
from .recognizers import SceneRecognizer, Verdict
from .scores import Score, score


@dataclass(frozen=True)
class Scorer:
    """Scores images of `prompts`.

    The Fréchet distance compares what is in cells that are not empty: it measures the quality and
    variety of the things, whereas verdicts say whether the right things are in the right cells.

    Args:
        reference: features of the things in real scenes; None for no distance.
    """

    recognizer: SceneRecognizer
    prompts: Sequence[Prompt]
    reference: Statistics | None = None

    def score(self, images: Sequence[np.ndarray]) -> Score:
        """The score of one image (H,W,3) in bytes for each prompt."""
        verdicts = [self.recognizer.verdict(image, prompt) for image, prompt in zip(images, self.prompts, strict=True)]
        accepted = [verdict.accepted for verdict in verdicts]
        found = feature_statistics(verdicts)
        known = found is not None and self.reference is not None
        return score(accepted, self.prompts, frechet_distance(found, self.reference) if known else None)


def feature_statistics(recognitions: Sequence[Recognition | Verdict]) -> Statistics | None:
    """The Fréchet distance of the features of all things; None for fewer than 2."""
    features = torch.cat([recognition.features for recognition in recognitions])
    return statistics(features) if len(features) > 1 else None


@dataclass(frozen=True)
class Reference:
    """The recognizer's results on real scenes that satisfy the prompts.

    Args:
        reference: features of the things in them.
        accuracy: of the recognizer.
        bound, reconstructed: scores of as many other scenes, before and after the VAE; upper bounds for a model. Their
            distances are due to the choice of scenes, and to the VAE.
    """

    reference: Statistics | None
    accuracy: Accuracy
    bound: Score
    reconstructed: Score


def score_reference(data: object, recognizer: SceneRecognizer, sampler: PromptSampler) -> Reference:
    """Score scenes of `data` for the sampler's prompts."""
    prompts, seed = sampler.prompts, sampler.seed
    own, others = ([recognizer.real(prompt, i, s, data) for i, prompt in enumerate(prompts)] for s in (seed, seed + 1))
    verdicts = [recognizer.verdict(image, prompt) for (_, image), prompt in zip(others, prompts, strict=True)]
    reference = feature_statistics(verdicts)
    scenes, images = zip(*own, strict=True)
    found = recognizer.accuracy(scenes, images)
    scorer = Scorer(recognizer, prompts, reference)
    return Reference(reference, found, scorer.score(images), scorer.score([sampler.reconstruct(i) for i in images]))
