"""A folder of training data as a `Dataset`, every file of it checked."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from .buckets import Size, bucket_size, bucket_step, kept, share_buckets
from .cache import MAX_CLASSES, Inspection, Inspections, inspect_image, inspect_latent
from .dataset import Dataset, Sample
from .entries import Entry, Layout
from .images import fit, read_image, to_tensor
from .labels import Classes, KnownClasses, number_classes
from .layouts import read_layout
from .ready_made import idx_dataset, latent_dataset
from .sections import DataConfig
from .share import ALONE, Share, rank, share_by


def open_dataset(
    config: DataConfig,
    ratio: int,
    patch_size: int,
    index: Path | None = None,
    known: KnownClasses | None = None,
    share: Share = ALONE,
) -> Dataset:
    """The training data in `config.path`, every file of it checked.

    Args:
        ratio: pixels per latent cell and side.
        index: where to remember the checks of files; None writes nothing.
        known: the classes of the weights that training starts from.
        share: among the processes with the same index.

    Raises:
        ValueError: no data, nothing usable in it, classes that do not fit, or, with `on_problem: stop`, the first
            problems.
    """
    folder = Path(config.path).expanduser()
    layout = read_layout(folder, config.class_names)
    if layout.name == "idx":
        dataset = idx_dataset(folder, config, known)
    elif layout.name == "latents":
        inspections = inspect_all(layout.files, Inspections(inspect_latent, folder, index), config.workers, share)
        dataset = latent_dataset(folder, inspections, config, patch_size, known)
        dataset.dropped.extend((entry.path.relative_to(folder).as_posix(), entry.problem) for entry in layout.entries)
    else:
        dataset = image_dataset(folder, layout, config, ratio * patch_size, index, known, share)
    check_samples(dataset, config)
    dropped = dataset.dropped if len(dataset.dropped) > len(dataset.samples) else []
    more = [f"more is dropped than used: {summary(dropped)}"] if dropped else []
    return replace(dataset, reading=layout.reading, notes=[*layout.notes, *dataset.notes, *more])


def check_samples(dataset: Dataset, config: DataConfig) -> None:
    """Raise ValueError for data without samples, with problems where `on_problem` says stop, or of two kinds."""
    if dataset.dropped and (config.on_problem == "stop" or not dataset.samples):
        problems = summary(dataset.dropped)
        raise ValueError(f"data.path={config.path}: {len(dataset.samples)} usable samples, problems: {problems}")
    if not dataset.samples:
        raise ValueError(f"data.path={config.path}: holds no samples")
    if len({bool(sample.captions) for sample in dataset.samples}) > 1:
        raise ValueError(f"data.path={config.path}: some samples have captions, others labels; expected one kind")


def summary(dropped: list[tuple[str, str]], most: int = 3) -> str:
    more = f" and {len(dropped) - most} more" if len(dropped) > most else ""
    return "; ".join(f"{name} {reason}" for name, reason in dropped[:most]) + more


def image_dataset(
    folder: Path,
    layout: Layout,
    config: DataConfig,
    unit: int,
    index: Path | None,
    known: KnownClasses | None,
    share: Share,
) -> Dataset:
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

    def read(i: int, mirrored: bool) -> Tensor:
        pixels = to_tensor(fit(read_image(folder / samples[i].name), *samples[i].bucket))
        return pixels.flip(-1) if mirrored else pixels

    notes = [*classes.notes, *crop_notes(sizes, [sample.bucket for sample in samples])]
    return Dataset(layout.name, samples, dropped, classes.names, read, notes=notes)


def image_sample(
    name: str, entry: Entry, found: Inspection | None, labels: dict, config: DataConfig, unit: int
) -> Sample:
    """The sample of an entry; ValueError with the reason why it is none."""
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
    """What the pictures lose at their edges, where that can be seen."""
    crops = [1 - kept(*size, *bucket) for size, bucket in zip(sizes, buckets, strict=True)]
    if max(crops, default=0) < 0.005:
        return []
    return [f"buckets crop {sum(crops) / len(crops):.1%} of a picture on average, {max(crops):.1%} at most"]


def inspect_all(paths: list[Path], inspections: Inspections, workers: int, share: Share) -> dict[Path, Inspection]:
    """The inspection of each file, and the index written.

    Processes whose files agree in name and version look at a share of them each, and tell each other.

    Args:
        share: among the processes with the same index; the first of them writes it.
    """
    group = share_by(inspections.listing(paths))
    own = group.of(paths)
    found: list[Inspection | None] = [None] * len(paths)
    try:
        with ThreadPoolExecutor(max(1, workers)) as pool:
            results = pool.map(inspections, own)
            results = list(tqdm(results, "checking files", len(own), unit="file", disable=rank() > 0 or None))
        for k, part in enumerate(group.gather(results)):
            found[k :: group.world] = part
        if group.world > 1:
            inspections.remember(paths, found)
    finally:
        if share.rank == 0:
            inspections.save()
    return dict(zip(paths, found, strict=True))
