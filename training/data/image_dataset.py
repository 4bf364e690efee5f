"""The image files of a layout as a `Dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ..config.data_schema import DataConfig
from ..processes.share import Share
from .buckets import Size, bucket_size, bucket_step, kept, share_buckets
from .dataset import Dataset, Sample
from .images.read_image import fit, read_image, to_tensor
from .inspection import MAX_CLASSES, Inspection, Inspections, inspect_all, inspect_image, inspect_mask
from .labels import Classes, KnownClasses, number_classes
from .layouts.entries import Entry, Layout


@dataclass(frozen=True)
class ImageDataset(Dataset):
    """Image files, scaled and cropped to their buckets when they are read, and their masks in the same way."""

    folder: Path = field(kw_only=True)

    def read(self, i: int, mirrored: bool) -> Tensor:
        sample = self.samples[i]
        pixels = to_tensor(fit(read_image(self.folder / sample.name), *sample.bucket))
        return pixels.flip(-1) if mirrored else pixels

    def read_mask(self, i: int, mirrored: bool) -> Tensor:
        sample = self.samples[i]
        if not sample.mask:
            width, height = sample.bucket
            return torch.ones(1, height, width)
        levels = (to_tensor(fit(read_image(self.folder / sample.mask), *sample.bucket)).mean(0, keepdim=True) + 1) / 2
        return levels.flip(-1) if mirrored else levels


@dataclass(frozen=True)
class Found:
    """What is in one of the data folders.

    Args:
        index: where to remember the checks of its files; None writes nothing.
    """

    folder: Path
    layout: Layout
    index: Path | None


def image_dataset(
    sources: Sequence[Found], config: DataConfig, unit: int, known: KnownClasses | None, share: Share
) -> ImageDataset:
    """The images that the layouts of some folders name.

    Args:
        unit: pixels per token and side.
        known, share: as in `open_dataset`.

    Raises:
        ValueError: invalid sizes in the config, or classes that do not fit.
    """
    if config.resolution < unit:
        raise ValueError(f"data.resolution={config.resolution}: expected at least {unit}, the pixels of one token")
    if not 0 <= config.bucket_step <= config.resolution:
        expected = f"0 or more pixels, at most data.resolution={config.resolution}"
        raise ValueError(f"data.bucket_step={config.bucket_step}: expected {expected}")
    usable = [entry for source in sources for entry in source.layout.entries if not entry.problem]
    labels = {entry.label for entry in usable} - {None}
    classes = number_classes(labels, config.class_names, known) if labels else Classes({}, [])
    root = sources[0].folder if len(sources) == 1 else None  # names of samples are relative to it, or whole paths
    name_of = lambda path: (path.relative_to(root) if root else path).as_posix()
    samples, dropped, sizes = [], [], []
    for k, source in enumerate(sources):
        inspections = inspect_source(source, config.workers, share)
        for entry in source.layout.entries:
            name, found = name_of(entry.path), inspections.get(entry.path)
            mask = source.layout.masks.get(entry.path)
            try:
                sample = image_sample(name, entry, found, classes.numbers, config, unit)
                if mask is not None:
                    sample = masked_sample(sample, found, name_of(mask), inspections[mask])
            except ValueError as error:
                dropped.append((name, str(error)))
                continue
            samples.append(replace(sample, folder=k))
            sizes.append((found.width, found.height))
    own_sizes = bucket_step(config.bucket_step, config.resolution, unit) < unit
    if not (own_sizes or config.square or any(entry.bucket for entry in usable)):
        buckets = share_buckets(sizes, [sample.bucket for sample in samples], config.resolution)
        samples = [replace(sample, bucket=bucket) for sample, bucket in zip(samples, buckets, strict=True)]

    notes = [*classes.notes, *crop_notes(sizes, [sample.bucket for sample in samples])]
    layouts = ", ".join(dict.fromkeys(source.layout.name for source in sources))
    return ImageDataset(layouts, samples, dropped, classes.names, notes=notes, folder=root or Path())


def inspect_source(source: Found, workers: int, share: Share) -> dict[Path, Inspection]:
    """The checks of a folder's images and of their masks."""
    pictures = [entry.path for entry in source.layout.entries if not entry.problem]
    masks = {*source.layout.masks.values()}
    check = lambda path: inspect_mask(path) if path in masks else inspect_image(path)
    return inspect_all([*pictures, *sorted(masks)], Inspections(check, source.folder, source.index), workers, share)


def masked_sample(sample: Sample, found: Inspection, mask: str, checked: Inspection) -> Sample:
    """A sample with the mask of that name; ValueError with the reason if it does not fit."""
    if checked.problem:
        raise ValueError(f"its mask {mask} {checked.problem}")
    if (checked.width, checked.height) != (found.width, found.height):
        expected = f"expected {found.width}x{found.height} as the image"
        raise ValueError(f"its mask {mask} is of {checked.width}x{checked.height}, {expected}")
    return replace(sample, mask=mask, mask_digest=checked.digest)


def image_sample(
    name: str, entry: Entry, found: Inspection | None, labels: dict, config: DataConfig, unit: int
) -> Sample:
    """The sample of an entry; ValueError with the reason if it cannot be used."""
    if entry.problem or found.problem:
        raise ValueError(entry.problem or found.problem)
    if entry.label is not None and entry.label not in labels:
        most = f" to {MAX_CLASSES - 1}" if isinstance(entry.label, int) else ""
        raise ValueError(f"has the label {entry.label!r}, expected one in data.class_names, or a number from 0{most}")
    step = bucket_step(config.bucket_step, config.resolution, unit)
    limits = (config.resolution, config.max_aspect, config.square, step)
    if entry.bucket:
        bucket = bucket_size(*entry.bucket, unit, max(entry.bucket), config.max_aspect)
    else:
        bucket = bucket_size(found.width, found.height, unit, *limits)
    return Sample(name, found.digest, bucket, entry.captions, labels.get(entry.label), entry.repeats)


def crop_notes(sizes: Sequence[Size], buckets: Sequence[Size]) -> list[str]:
    """A remark on how much is cropped from images, if it is noticeable."""
    crops = [1 - kept(*size, *bucket) for size, bucket in zip(sizes, buckets, strict=True)]
    if max(crops, default=0) < 0.005:
        return []
    return [f"buckets crop {sum(crops) / len(crops):.1%} of an image on average, {max(crops):.1%} at most"]
