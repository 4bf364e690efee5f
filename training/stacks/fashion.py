"""The demo stack for FashionScenes, from Fashion-MNIST."""

from __future__ import annotations

from pathlib import Path

from ..evaluation.bundled import BUNDLED
from .stack import Stack, Stage

RUNS = Path("runs/demo")
SCENES = 80_000
CLASSIFIER = RUNS / "classifier.safetensors"


def sources(items: Path) -> list[Stage]:
    """Images and classifier."""
    return [
        (RUNS / "scenes", ["training.scenes", "--out", RUNS / "scenes", "--items", items, "--count", SCENES]),
        (CLASSIFIER, ["training.classifier", items, CLASSIFIER]),
    ]


FASHION = Stack(
    Path(__file__).parents[1] / "recipes" / "demo", RUNS, BUNDLED["data"], sources,
    text_encoder=RUNS / "gemma-fashion-scenes.safetensors", classifier=CLASSIFIER, files=BUNDLED,
    decoder=6000, velocity=4000, transitions=2800, few_steps=6300,
)  # fmt: skip
