"""The latent spaces of TiM models; the number of channels identifies each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..files.errors import CheckpointError, metadata_json
from .params import TiMParams, layout_name

MAX_RATIO = 1024  # pixels of a latent cell and side; no VAE has more than 64


@dataclass(frozen=True)
class LatentSpace:
    """Pixels per latent cell and side, and what a VAE's raw latents are multiplied by."""

    channels: int
    ratio: int
    scaling_factor: float


LATENT_SPACES: dict[int, LatentSpace] = {
    3: LatentSpace(3, 1, 1.0),  # pixels in [-1, 1], no VAE
    4: LatentSpace(4, 8, 0.18215),  # SD-VAE ft-ema
    16: LatentSpace(16, 16, 1.0),  # small DC-AE of the demo stack
    32: LatentSpace(32, 32, 0.41407),  # DC-AE f32c32 sana-1.1
}


def latent_space(channels: int, metadata: Mapping[str, str] | None = None) -> LatentSpace:
    """The latent space of a model with that many channels.

    Args:
        metadata: of the checkpoint; its "latent_space", JSON with `ratio` and `scaling_factor`, takes precedence.

    Raises:
        CheckpointError: channels that no known VAE has, and no such metadata.
    """
    if "latent_space" in (metadata or {}):
        try:
            stated = metadata_json(metadata, "latent_space", {})
        except CheckpointError:
            stated = {}
        ratio, scaling_factor = stated.get("ratio"), stated.get("scaling_factor")
        if not is_ratio(ratio) or not is_factor(scaling_factor):
            raise CheckpointError(
                f'has metadata "latent_space" {metadata["latent_space"][:80]!r}, expected JSON such as '
                '{"ratio": 32, "scaling_factor": 0.41407}'
            )
        return LatentSpace(channels, int(ratio), float(scaling_factor))
    if channels not in LATENT_SPACES:
        raise CheckpointError(
            f"has {channels} latent channels, expected {', '.join(map(str, LATENT_SPACES))}, or its ratio and "
            'scaling_factor as "latent_space" in the metadata'
        )
    return LATENT_SPACES[channels]


def is_ratio(value: object) -> bool:
    """Whether `value` can be the pixels of a latent cell and side: a whole number from 1 to `MAX_RATIO`."""
    return isinstance(value, (int, float)) and value is not True and 1 <= value <= MAX_RATIO and value == int(value)


def is_factor(value: object) -> bool:
    """Whether `value` can be what latents are multiplied by: a number above 0 that float32 holds."""
    return isinstance(value, (int, float)) and value is not True and 1e-6 <= value <= 1e6


def latent_shape(space: LatentSpace, patch_size: int, width: int, height: int, batch: int) -> tuple[int, int, int, int]:
    """Shape (B,C,H,W) of the latents of `batch` images of width x height pixels.

    Raises:
        ValueError: a side is not a positive multiple of ratio * patch_size pixels.
    """
    unit = space.ratio * patch_size
    if width < unit or height < unit or width % unit or height % unit:
        near = "x".join(str(max(1, round(side / unit)) * unit) for side in (width, height))
        raise ValueError(f"size {width}x{height}: expected multiples of {unit} for this model, such as {near}")
    return batch, space.channels, height // space.ratio, width // space.ratio


def default_size(params: TiMParams, space: LatentSpace, metadata: Mapping[str, str] | None = None) -> tuple[int, int]:
    """Native (width, height) of a model in pixels: that of its published layout, else 8x8 tokens.

    Args:
        metadata: of the checkpoint; its "resolution", the pixels of a side in training, takes precedence.

    Raises:
        CheckpointError: a resolution that is no multiple of a token's pixels.
    """
    unit = space.ratio * params.patch_size
    if "resolution" in (metadata or {}):
        stated = metadata["resolution"]
        if not (stated.isdecimal() and len(stated) <= 5 and 0 < int(stated) and int(stated) % unit == 0):
            raise CheckpointError(f'has metadata "resolution" {stated[:80]!r}, expected pixels, a multiple of {unit}')
        return int(stated), int(stated)
    published = {"tim-t2i-xl-p1": 1024, "tim-c2i-xl-p1-512": 512, "tim-c2i-xl-p2-256": 256, "tim-c2i-b-p4-256": 256}
    side = published.get(layout_name(params), 8 * unit)
    return side, side
