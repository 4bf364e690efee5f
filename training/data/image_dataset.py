"""The image files of a layout as a `Dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from ..config.schema import DataConfig
from ..processes.share import Share
from .buckets import Size, bucket_size, bucket_step, kept, share_buckets
from .dataset import Dataset, Sample
from .images.read_image import fit, read_image, to_tensor
from .inspection import MAX_CLASSES, Inspection, Inspections, inspect_all, inspect_image
from .labels import Classes, KnownClasses, number_classes
from .layouts.entries import Entry, Layout


@dataclass(frozen=True)
class ImageDataset(Dataset):
    """Image files, scaled and cropped to their buckets when they are read."""

    folder: Path = field(kw_only=True)

    def read(self, i: int, mirrored: bool) -> Tensor:
        sample = self.samples[i]
        pixels = to_tensor(fit(read_image(self.folder / sample.name), *sample.bucket))
        return pixels.flip(-1) if mirrored else pixels


def image_dataset(
    folder: Path,
    layout: Layout,
    config: DataConfig,
    unit: int,
    index: Path | None,
    known: KnownClasses | None,
    share: Share,
) -> ImageDataset:
    """The images that a layout names.

    Args:
        unit: pixels per token and side.
        index, known, share: as in `open_dataset`.

    Raises:
        ValueError: invalid sizes in the config, or classes that do not fit.
    """
    if config.resolution < unit:
        raise ValueError(f"data.resolution={config.resolution}: expected at least {unit}, the pixels of one token")
    if not 0 <= config.bucket_step <= config.resolution:
        expected = f"0 or more pixels, at most data.resolution={config.resolution}"
        raise ValueError(f"data.bucket_step={config.bucket_step}: expected {expected}")
    usable = [entry for entry in layout.entries if not entry.problem]
    labels = {entry.label for entry in usable} - {None}
    classes = number_classes(labels, config.class_names, known) if labels else Classes({}, [])
    paths = [entry.path for entry in usable]
    inspections = inspect_all(paths, Inspections(inspect_image, folder, index), config.workers, share)
    samples, dropped = [], []
    for entry in layout.entries:
        name = entry.path.relative_to(folder).as_posix()
        try:
            samples.append(image_sample(name, entry, inspections.get(entry.path), classes.numbers, config, unit))
        except ValueError as error:
            dropped.append((name, str(error)))
    sizes = [(found.width, found.height) for found in (inspections[folder / sample.name] for sample in samples)]
    own_sizes = bucket_step(config.bucket_step, config.resolution, unit) < unit
    if not (own_sizes or config.square or any(entry.bucket for entry in usable)):
        buckets = share_buckets(sizes, [sample.bucket for sample in samples], config.resolution)
        samples = [replace(sample, bucket=bucket) for sample, bucket in zip(samples, buckets, strict=True)]

    notes = [*classes.notes, *crop_notes(sizes, [sample.bucket for sample in samples])]
    return ImageDataset(layout.name, samples, dropped, classes.names, notes=notes, folder=folder)


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
