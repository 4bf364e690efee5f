"""The stack that draws EmojiScenes, from emoji drawings of npm packages."""

from __future__ import annotations

from pathlib import Path

from ..emoji.drawings import PACKAGES, drawing_path
from ..emoji.things import THINGS
from ..evaluation.bundled import EMOJI_STACK
from .stack import Stack, Stage

RUNS = Path("runs/emoji")
SCENES, CROWDED = 48_000, 24_000
CLASSIFIER, WORDS = RUNS / "classifier.safetensors", RUNS / "words.json"


def sources(drawings: Path) -> list[Stage]:
    """Drawings, images for the network and for the VAE, words that mean the same, and classifier."""
    last = drawing_path(drawings, PACKAGES[-1].style, list(THINGS)[-1])
    taken = ["--drawings", drawings, "--count"]
    return [
        (last, ["devtools.emoji_drawings", drawings]),
        (RUNS / "scenes", ["training.emoji", "scenes", RUNS / "scenes", *taken, SCENES]),
        (RUNS / "crowded", ["training.emoji", "scenes", RUNS / "crowded", *taken, CROWDED, "--crowded"]),
        (WORDS, ["training.emoji", "words", WORDS]),
        (CLASSIFIER, ["training.emoji", "classifier", CLASSIFIER, "--drawings", drawings]),
    ]


EMOJI = Stack(
    Path(__file__).parents[1] / "recipes" / "emoji", RUNS, EMOJI_STACK["data"], sources,
    text_encoder=RUNS / "gemma-emoji-scenes.safetensors", classifier=CLASSIFIER, files=EMOJI_STACK,
    decoder=3000, velocity=8000, transitions=4000, few_steps=8000,
)  # fmt: skip
