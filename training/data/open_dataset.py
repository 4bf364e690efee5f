"""Opens folders of training data as a `Dataset`, with every file checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..config.data_schema import DataConfig
from ..processes.share import ALONE, Share
from .dataset import Dataset
from .image_dataset import Found, image_dataset
from .inspection import Inspections, index_path, inspect_all, inspect_latent
from .labels import KnownClasses
from .layouts.find_layout import read_layout
from .ready_made import idx_dataset, latent_dataset


def open_dataset(
    config: DataConfig,
    ratio: int,
    patch_size: int,
    remember: bool = False,
    known: KnownClasses | None = None,
    share: Share = ALONE,
) -> Dataset:
    """The training data in `config.sources`, with every file checked.

    Args:
        ratio: pixels per latent cell and side.
        remember: whether to write the checks of files into `config.cache`.
        known: the classes of the weights that training starts from.
        share: divides the checks among the processes with the same cache.

    Raises:
        ValueError: no data, no usable samples, classes that do not fit, or any problem with `on_problem: stop`.
    """
    sources = []
    for source in config.sources:
        folder = Path(source.path).expanduser()
        layout = read_layout(folder, config.class_names, source.instance_prompt, config.masks)
        index = index_path(config.cache, source.path) if remember else None
        sources.append(Found(folder, layout, index))
    check_sources(sources, config)
    folder, layout, index = sources[0].folder, sources[0].layout, sources[0].index
    if layout.name == "idx":
        dataset = idx_dataset(folder, layout.files, config, known)
    elif layout.name == "latents":
        inspections = inspect_all(layout.files, Inspections(inspect_latent, folder, index), config.workers, share)
        dataset = latent_dataset(folder, inspections, config, patch_size, known)
        dataset.dropped.extend((entry.path.relative_to(folder).as_posix(), entry.problem) for entry in layout.entries)
    else:
        dataset = image_dataset(sources, config, ratio * patch_size, known, share)
    check_samples(dataset, config)
    dropped = dataset.dropped if len(dataset.dropped) > len(dataset.samples) else []
    more = [f"more is dropped than used: {summary(dropped)}"] if dropped else []
    named = [(f"{source.folder}: " if len(sources) > 1 else "", source.layout) for source in sources]
    reading = "; ".join(f"{name}{layout.reading}" for name, layout in named)
    notes = [f"{name}{note}" for name, layout in named for note in layout.notes]
    return replace(dataset, reading=reading, notes=[*notes, *dataset.notes, *more])


def check_sources(sources: list[Found], config: DataConfig) -> None:
    """Raise ValueError for several folders, or masks, of files that are no images."""
    if config.folders:
        expected, several = "expected folders of images", "data.folders"
    else:
        expected, several = "expected images", "data.masks"
    for source in sources if config.masks or config.folders else ():
        if source.layout.files:
            raise ValueError(f"{several}: {source.folder} holds {source.layout.reading}, {expected}")


def check_samples(dataset: Dataset, config: DataConfig) -> None:
    """Raise ValueError for no samples, both captions and labels, or problems with `on_problem: stop`."""
    if dataset.dropped and (config.on_problem == "stop" or not dataset.samples):
        problems = summary(dataset.dropped)
        raise ValueError(f"{config.place}: {len(dataset.samples)} usable samples, problems: {problems}")
    if not dataset.samples:
        raise ValueError(f"{config.place}: holds no samples")
    if len({bool(sample.captions) for sample in dataset.samples}) > 1:
        raise ValueError(f"{config.place}: some samples have captions, others labels; expected one kind")


def summary(dropped: list[tuple[str, str]], most: int = 3) -> str:
    more = f" and {len(dropped) - most} more" if len(dropped) > most else ""
    return "; ".join(f"{name} {reason}" for name, reason in dropped[:most]) + more
