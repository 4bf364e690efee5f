"""Images beyond the trained size in stages: sample at the base size, enlarge, re-noise, and go on at the next size.

TiM jumps from any time to any earlier one, so that a large stage takes one or two steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..network.latent_space import LatentSpace, latent_shape
from .noise import Seed, draw_noise, image_noise_stream, noise_stream
from .sampler import sample
from .schedule import check_times, make_times
from .sizes import MEGAPIXEL, nearest_multiple

Size = tuple[int, int]  # (width, height)


@dataclass(frozen=True)
class Stage:
    """One size in pixels and its times: from 1 in the first stage, from the re-noise time in the others, down to 0."""

    width: int
    height: int
    times: tuple[float, ...]


class Codec(Protocol):
    """The two methods of a VAE that enlarging in pixels needs; `tim_model.vae.tiled_vae.TiledVAE` has them."""

    def encode(self, images: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


def plan_stages(
    size: Size,
    unit: int,
    base_pixels: int = MEGAPIXEL,
    growth: float = 2.0,
    steps: int = 4,
    large_steps: int = 1,
    renoise: float = 0.1,
    time_shift: bool = False,
) -> list[Stage]:
    """The stages to a size in pixels: the first at about `base_pixels`, the last at exactly that size.

    Args:
        size: (width, height) of the last stage.
        unit: every side is a multiple of it, the model's ratio times its patch size.
        base_pixels: that the model knows, width times height; one megapixel for the published text model.
        growth: a side grows by no more than this factor from stage to stage.
        steps, large_steps: of the first stage, and of each of the others.
        renoise: time in (0, 1] that the other stages start at: 1 keeps nothing of the smaller image.
        time_shift: bend each stage's schedule for its size, by `size_shift`.

    Raises:
        ValueError: sides that are no multiples of unit, or settings that make no plan; in one line.
    """
    if not 0 < renoise <= 1:
        raise ValueError(f"renoise={renoise:g}: expected a time above 0, up to 1")

    def stage(i: int, size: Size) -> Stage:
        shift = size_shift(*size, base_pixels) if time_shift else 1.0
        times = make_times("shifted", large_steps if i else steps, start=renoise if i else 1.0, shift=shift)
        return Stage(*size, tuple(times))

    return [stage(i, size) for i, size in enumerate(plan_sizes(size, unit, base_pixels, growth))]


def size_shift(width: int, height: int, base_pixels: int = MEGAPIXEL) -> float:
    """Shift of `schedule.shifted` for an image with m tokens where the model knows n: sqrt(m/n), at least 1.

    Stable Diffusion 3 (arXiv 2403.03206, eq. 23); pixels count as well as tokens. 1 leaves a schedule as it is.
    """
    return max(1.0, math.sqrt(width * height / base_pixels))


def plan_sizes(target: Size, unit: int, base_pixels: int, growth: float) -> list[Size]:
    """The sizes of the stages: as few as `growth` allows, about evenly spaced, of about one aspect ratio."""
    if any(side < unit or side % unit for side in target):
        raise ValueError(f"size {target[0]}x{target[1]}: expected multiples of {unit} for this model")
    if not growth > 1:
        raise ValueError(f"growth={growth:g}: expected a factor above 1")
    sizes = [base_size(target, unit, base_pixels)]
    while sizes[-1] != target:
        sizes.append(next_size(sizes[-1], target, unit, growth))
    return sizes


def next_size(size: Size, target: Size, unit: int, growth: float) -> Size:
    """The size of the stage after `size`, each side the same share of its way to the target's in powers."""
    ratios = [end / side for side, end in zip(size, target, strict=True)]
    left = math.ceil(math.log(max(ratios)) / math.log(growth) - 1e-9)
    if left <= 1:
        return target
    width, height = (
        min(round(side * ratio ** (1 / left) / unit), int(side * growth / unit + 1e-9)) * unit
        for side, ratio in zip(size, ratios, strict=True)
    )
    if width <= size[0] and height <= size[1]:
        raise ValueError(f"growth={growth:g}: expected enough to enlarge {size[0]}x{size[1]} by {unit} pixels")
    return width, height


def base_size(target: Size, unit: int, base_pixels: int) -> Size:
    """The size of about `base_pixels` and the target's aspect ratio, in multiples of unit; never above the target."""
    if base_pixels < unit * unit:
        raise ValueError(f"base_pixels={base_pixels}: expected at least {unit}x{unit} for this model")
    scale = min(1.0, math.sqrt(base_pixels / math.prod(target)))
    return nearest_multiple(target[0] * scale, unit), nearest_multiple(target[1] * scale, unit)


def upscale(x: Tensor, width: int, height: int) -> Tensor:
    """Images or latents (B,C,H,W) at another size in cells: bicubic, filtered first where a side shrinks."""
    from kornia.geometry.transform import resize

    return resize(x, (height, width), interpolation="bicubic", align_corners=False, antialias=True)


def renoise(x: Tensor, noise: Tensor, s: float) -> Tensor:
    """The state x_s = (1 - s) x + s noise at time s of the data x, on the path ot_fm."""
    return (1 - s) * x + s * noise


def stage_seed(seed: Seed, stage: int) -> Seed:
    """The seed of a stage's noise, that of the image for stage 0; far from the seeds of other images."""
    if isinstance(seed, tuple):
        return tuple(stage_seed(own, stage) for own in seed)
    return (seed + stage * 0x9E3779B97F4A7C15) % 2**64  # 2^64 over the golden ratio: all stages differ


@torch.no_grad()
def sample_progressively(
    net: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    stages: Sequence[Stage],
    context: Tensor,
    null_context: Tensor | None = None,
    *,
    space: LatentSpace,
    seed: Seed = 0,
    vae: Codec | None = None,
    **sampling,
) -> Tensor:
    """Latents of the last stage's size, one for each row of `context`; one stage alone is `sample`.

    Args:
        net, context, null_context: as for `sample`.
        stages: from `plan_stages` or your own.
        space: of the model's latents.
        seed: the same seed gives the same images; each stage has noise of its own. A tuple holds one for each image.
        vae: enlarges in pixels; without it the latents themselves are enlarged, which in pixel space are images.
        sampling: further arguments of `sample`, such as cfg; several stages need its ot_fm. Steps count from 0 in
            each stage.

    Raises:
        ValueError: stages that do not follow one another, sizes that do not fit the latents, and as `sample`.
    """
    check_stages(stages, **sampling)
    x = None
    for i, stage in enumerate(stages):
        shape = latent_shape(space, 1, stage.width, stage.height, len(context))
        noise = draw_noise(shape, stage_seed(seed, i)).to(context.device)
        x = noise if x is None else renoise(enlarge(x, shape, vae, space), noise, stage.times[0])
        stream = (image_noise_stream if sampling.get("restart") else noise_stream)(stage_seed(seed, i))
        x = sample(net, x, stage.times, context, null_context, noise_fn=stream, **sampling)
    return x


def enlarge(latents: Tensor, shape: Sequence[int], vae: Codec | None, space: LatentSpace) -> Tensor:
    """Latents of `shape` that show the same image, by way of its pixels where there is a VAE."""
    height, width = shape[-2:]
    if vae is None:
        return upscale(latents, width, height)
    picture = vae.decode(latents).clamp(-1, 1)  # as hosts do, and every image file
    pixels = upscale(picture, width * space.ratio, height * space.ratio)
    return vae.encode(pixels.clamp(-1, 1)).to(latents)  # bicubic overshoots at edges


def check_stages(stages: Sequence[Stage], transport: str = "ot_fm", **sampling) -> None:
    """Raise ValueError unless there are stages: one, or several from 1 or a re-noise time to 0 each, on ot_fm."""
    if not stages:
        raise ValueError("no stages: expected at least one")
    if len(stages) == 1:
        return  # `sample` knows which times it can take
    if transport != "ot_fm":
        raise ValueError(f"transport {transport!r} in {len(stages)} stages: expected ot_fm, which they re-noise on")
    for i, stage in enumerate(stages):
        times = check_times(list(stage.times))
        if times[-1] != 0 or (i == 0 and times[0] != 1):
            start = "1 (pure noise)" if i == 0 else "its re-noise time"
            raise ValueError(f"stage {i} runs from {times[0]:g} to {times[-1]:g}: expected it from {start} to 0")
