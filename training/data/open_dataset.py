"""Opens a folder of training data as a `Dataset`, with every file checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..config.schema import DataConfig
from ..processes.share import ALONE, Share
from .dataset import Dataset
from .image_dataset import image_dataset
from .inspection import Inspections, inspect_all, inspect_latent
from .labels import KnownClasses
from .layouts.find_layout import read_layout
from .ready_made import idx_dataset, latent_dataset


def open_dataset(
    config: DataConfig,
    ratio: int,
    patch_size: int,
    index: Path | None = None,
    known: KnownClasses | None = None,
    share: Share = ALONE,
) -> Dataset:
    """The training data in `config.path`, with every file checked.

    Args:
        ratio: pixels per latent cell and side.
        index: where to remember the checks of files; None writes nothing.
        known: the classes of the weights that training starts from.
        share: divides the checks among the processes with the same index.

    Raises:
        ValueError: no data, no usable samples, classes that do not fit, or any problem with `on_problem: stop`.
    """
    folder = Path(config.path).expanduser()
    layout = read_layout(folder, config.class_names)
    if layout.name == "idx":
        dataset = idx_dataset(folder, layout.files, config, known)
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
    """Raise ValueError for no samples, both captions and labels, or problems with `on_problem: stop`."""
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
