"""The Fréchet distance between two sets of features (arXiv 1706.08500): smaller is closer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor


class Statistics(NamedTuple):
    """Mean (D,) and covariance (D,D) of features, float64."""

    mean: np.ndarray
    covariance: np.ndarray


def statistics(features: Tensor) -> Statistics:
    """Of features (N,D).

    Raises:
        ValueError: fewer than 2 of them, or a value that is not finite.
    """
    if features.ndim != 2 or len(features) < 2 or not features.isfinite().all():
        raise ValueError(f"features of shape {tuple(features.shape)}: expected (N, D), N at least 2, finite values")
    values = features.double().cpu().numpy()
    return Statistics(values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False)))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2)."""
    root = symmetric_root(a.covariance)
    cross = np.linalg.eigvalsh(root @ b.covariance @ root)
    traces = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(cross.clip(min=0)).sum()
    return float(np.square(a.mean - b.mean).sum() + traces)


def symmetric_root(matrix: np.ndarray) -> np.ndarray:
    """The square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
