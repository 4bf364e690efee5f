"""What a sweep is asked for, checked before anything runs."""

from __future__ import annotations

from ..host.model import TiMModel
from ..run.keys import LABEL

MOST_STEPS = 10000
MOST_RUNS = 16
LONGEST_NAME = 80  # characters


def parse_steps(text: str) -> list[int]:
    """Step counts written as "1, 2, 4" (commas, semicolons or spaces).

    Raises:
        ValueError: no whole number from 1 to `MOST_STEPS`, none at all, or more than `MOST_RUNS`.
    """
    words = text.replace(",", " ").replace(";", " ").split()
    for word in words:
        if not (word.isdecimal() and 1 <= int(word) <= MOST_STEPS):
            raise ValueError(f'steps has {word!r}: expected whole numbers from 1 to {MOST_STEPS}, such as "1, 2, 4, 8"')
    if not 1 <= len(words) <= MOST_RUNS:
        raise ValueError(f'steps has {len(words)} entries: expected 1 to {MOST_RUNS} numbers, such as "1, 2, 4, 8"')
    return [int(word) for word in words]


def row_name(text: str) -> str:
    """The name of a row without blanks around it; ValueError where it is empty, of several lines or too long."""
    name = text.strip()
    if not name:
        raise ValueError('name is empty: expected what the row is to be called in the grid, such as "SD3.5 Turbo"')
    if len(name) > LONGEST_NAME or len(name.splitlines()) > 1:
        raise ValueError(f"name {name[:20]!r}…: expected one line of at most {LONGEST_NAME} characters")
    return name


def check_class(model, **conditioning: list) -> None:
    """ValueError, with the name of the input, for a class of TiM where the MODEL is of another family."""
    for name, entries in conditioning.items():
        if any(LABEL in options for _, options in entries) and not isinstance(model.model, TiMModel):
            raise ValueError(
                f"{name} is a class of a TiM model, which {type(model.model).__name__} does not know: connect text "
                "from its own text encoder"
            )


def check_latent(model, latent: dict) -> None:
    """ValueError for a LATENT that the MODEL cannot start from: a video, or not empty and of another model."""
    samples, channels = latent["samples"], model.model.latent_format.latent_channels
    if samples.ndim != 4:
        raise ValueError(f"latent_image has {samples.ndim} dimensions: expected 4, the latent of images")
    if samples.any() and samples.shape[1] != channels:
        raise ValueError(
            f"latent_image has {samples.shape[1]} channels, this model draws {channels}: connect an empty latent, or "
            "encode the image with the model's own VAE"
        )
