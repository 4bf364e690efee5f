"""A folder of training data as a list of samples, a list of what was dropped and why, and a way to read one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from .buckets import Size, bucket_size
from .cache import MAX_CLASSES, Inspection, Inspections, inspect_image, inspect_latent
from .idx import read_idx
from .image_kinds import OTHER_ENDINGS, reason_not_read
from .images import fit, read_image, to_tensor
from .layouts import IDX_IMAGES, LAYOUTS, Entry, find_layout, image_files
from .sections import DataConfig


@dataclass(frozen=True)
class Sample:
    """One picture (or latent): where it lies, its content's hash, its size in training and what it shows."""

    name: str  # relative to the folder
    digest: str
    bucket: Size  # (width, height) in pixels, or in cells of ready-made latents
    captions: tuple[str, ...] = ()
    label: int | None = None


@dataclass(frozen=True)
class Dataset:
    """Samples in an order that no file system changes.

    `read(i, mirrored)` gives pixels (3,H,W) in [-1, 1], or, where `latent`, scaled latents (channels,h,w).
    """

    layout: str
    samples: list[Sample]
    dropped: list[tuple[str, str]]  # file and reason
    class_names: list[str]
    read: Callable[[int, bool], Tensor]
    channels: int = 3
    latent: bool = False

    @property
    def captioned(self) -> bool:
        """Whether samples have captions, else they have labels."""
        return bool(self.samples[0].captions)

    @property
    def num_classes(self) -> int:
        """Labels are below this."""
        return max(len(self.class_names), 1 + max(sample.label for sample in self.samples))

    def digest(self) -> str:
        """Changes with every picture, caption, label and size; states and files of weights keep it."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        text = "\n".join(repr((s.digest, s.bucket, s.captions, s.label)) for s in self.samples)
        return hashlib.sha256(text.encode()).hexdigest()

    def table(self) -> str:
        """Buckets with their counts, and every dropped file with its reason."""
        buckets = Counter(sample.bucket for sample in self.samples)
        kind = "captions" if self.captioned else f"{self.num_classes} classes"
        lines = [f"data: {len(self.samples)} samples with {kind}, layout: {self.layout}"]
        lines += [f"  {width}x{height}: {count}" for (width, height), count in sorted(buckets.items())]
        lines += [f"dropped: {len(self.dropped)}"]
        lines += [f"  {name}: {reason}" for name, reason in self.dropped]
        return "\n".join(lines).encode(errors="backslashreplace").decode()  # names of files may be no Unicode


def open_dataset(config: DataConfig, ratio: int, patch_size: int, index: Path | None = None) -> Dataset:
    """The training data in `config.path`, every file of it checked.

    Args:
        ratio: pixels per latent cell and side.
        index: where to remember the checks of files; None writes nothing.

    Raises:
        ValueError: no data, nothing usable in it, or, with `on_problem: stop`, the first problems.
    """
    folder = Path(config.path).expanduser()
    layout = find_layout(folder)
    if layout == "idx":
        dataset = idx_dataset(folder, config)
    elif layout == "latents":
        dataset = latent_dataset(folder, config, patch_size, index)
    else:
        dataset = image_dataset(folder, layout, config, ratio * patch_size, index)
    if dataset.dropped and (config.on_problem == "stop" or not dataset.samples):
        problems = summary(dataset.dropped)
        raise ValueError(f"data.path={folder}: {len(dataset.samples)} usable samples, problems: {problems}")
    if not dataset.samples:
        raise ValueError(f"data.path={folder}: holds no samples")
    if len({bool(sample.captions) for sample in dataset.samples}) > 1:
        raise ValueError(f"data.path={folder}: some samples have captions, others labels; expected one kind")
    return dataset


def summary(dropped: list[tuple[str, str]], most: int = 3) -> str:
    more = f" and {len(dropped) - most} more" if len(dropped) > most else ""
    return "; ".join(f"{name} {reason}" for name, reason in dropped[:most]) + more


def image_dataset(folder: Path, layout: str, config: DataConfig, unit: int, index: Path | None) -> Dataset:
    if config.resolution < unit:
        raise ValueError(f"data.resolution={config.resolution}: expected at least {unit}, the pixels of one token")
    entries = list(LAYOUTS[layout](folder))
    usable = [entry.path for entry in entries if not entry.problem]
    inspections = inspect_all(usable, Inspections(inspect_image, folder, index), config.workers)
    labels = label_numbers((e.label for e in entries if not e.problem), config.class_names)
    samples, dropped = [], []
    for entry in entries:
        name = entry.path.relative_to(folder).as_posix()
        try:
            samples.append(image_sample(name, entry, inspections.get(entry.path), labels, config, unit))
        except ValueError as error:
            dropped.append((name, str(error)))
    if layout in ("captions", "classes"):  # the others name their files
        dropped += [(p.relative_to(folder).as_posix(), reason_not_read(p)) for p in image_files(folder, OTHER_ENDINGS)]
    names = list(config.class_names) or [name for name in labels if isinstance(name, str)]

    def read(i: int, mirrored: bool) -> Tensor:
        pixels = to_tensor(fit(read_image(folder / samples[i].name), *samples[i].bucket))
        return pixels.flip(-1) if mirrored else pixels

    return Dataset(layout, samples, dropped, names, read)


def image_sample(
    name: str, entry: Entry, found: Inspection | None, labels: dict, config: DataConfig, unit: int
) -> Sample:
    """The sample of an entry; ValueError with the reason why it is none."""
    if entry.problem or found.problem:
        raise ValueError(entry.problem or found.problem)
    if entry.label is not None and entry.label not in labels:
        most = f" to {MAX_CLASSES - 1}" if isinstance(entry.label, int) else ""
        raise ValueError(f"has the label {entry.label!r}, expected one in data.class_names, or a number from 0{most}")
    limits = (config.resolution, config.max_aspect, config.square)
    if entry.bucket:
        bucket = bucket_size(*entry.bucket, unit, max(entry.bucket), config.max_aspect)
    else:
        bucket = bucket_size(found.width, found.height, unit, *limits)
    return Sample(name, found.digest, bucket, entry.captions, labels.get(entry.label))


def label_numbers(labels: Iterable[int | str | None], class_names: list[str]) -> dict[int | str, int]:
    """The number of each label: its own, its place in `class_names`, else its place among all names, sorted."""
    found = set(labels) - {None}
    if class_names:
        return {label: i for i, name in enumerate(class_names) for label in (name, i)}
    names = sorted(label for label in found if isinstance(label, str))
    numbers = {label: label for label in found if isinstance(label, int) and 0 <= label < MAX_CLASSES}
    if names and numbers:
        both = f"names ({names[0]!r}) and numbers ({min(numbers)})"
        raise ValueError(f"data.path: labels are both {both}, expected one kind")
    return {name: i for i, name in enumerate(names)} or numbers


def inspect_all(paths: list[Path], inspections: Inspections, workers: int) -> dict[Path, Inspection]:
    """The inspection of each file, and the index written."""
    try:
        with ThreadPoolExecutor(max(1, workers)) as pool:
            results = tqdm(pool.map(inspections, paths), "checking files", len(paths), unit="file", disable=None)
            return dict(zip(paths, results, strict=True))
    finally:
        inspections.save()


def latent_dataset(folder: Path, config: DataConfig, patch_size: int, index: Path | None) -> Dataset:
    """The released class-latent layout: one safetensors for each image."""
    paths = sorted(folder.rglob("*.safetensors"), key=lambda path: path.relative_to(folder).as_posix())
    inspections = inspect_all(paths, Inspections(inspect_latent, folder, index), config.workers)
    channels = Counter(i.channels for i in inspections.values() if not i.problem).most_common(1)
    samples, dropped = [], []
    for path, found in inspections.items():
        name = path.relative_to(folder).as_posix()
        if reason := latent_problem(found, channels, patch_size):
            dropped.append((name, reason))
        else:
            samples.append(Sample(name, found.digest, (found.width, found.height), (), found.label))

    def read(i: int, mirrored: bool) -> Tensor:
        return load_file(folder / samples[i].name)["latent"][int(mirrored)].float()

    return Dataset("latents", samples, dropped, list(config.class_names), read, channels[0][0] if channels else 0, True)


def latent_problem(found: Inspection, channels: list[tuple[int, int]], patch_size: int) -> str:
    """Why a latent file cannot be used, "" if it can."""
    if found.problem:
        return found.problem
    if found.channels != channels[0][0]:
        return f"has {found.channels} channels, expected {channels[0][0]} as most files"
    if found.width % patch_size or found.height % patch_size:
        return f"has {found.width}x{found.height} cells, expected multiples of the patch size {patch_size}"
    return ""


def idx_dataset(folder: Path, config: DataConfig) -> Dataset:
    """The files of (Fashion-)MNIST: gray pictures, padded with black to `config.resolution` a side."""
    images_file = next((p for p in sorted(folder.glob(IDX_IMAGES)) if p.name.startswith("train")), None)
    if images_file is None:
        raise ValueError(f"data.path={folder}: no train-images-idx3-ubyte(.gz), expected the files of Fashion-MNIST")
    labels_file = images_file.with_name(images_file.name.replace("images-idx3", "labels-idx1"))
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    count, height, width = images.shape
    side = config.resolution
    if len(labels) != count or max(height, width) > side:
        raise ValueError(
            f"{images_file}: {count} pictures of {width}x{height} and {len(labels)} labels, expected as many labels "
            f"and pictures within data.resolution={side}"
        )
    top, left = (side - height) // 2, (side - width) // 2
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    names = [f"{images_file.name}#{i}" for i in range(count)]
    samples = [Sample(n, f"{digest}#{n}", (side, side), (), int(k)) for n, k in zip(names, labels, strict=True)]

    def read(i: int, mirrored: bool) -> Tensor:
        canvas = torch.full((3, side, side), -1.0)
        canvas[:, top : top + height, left : left + width] = torch.from_numpy(images[i] / np.float32(127.5) - 1)
        return canvas.flip(-1) if mirrored else canvas

    return Dataset("idx", samples, [], list(config.class_names), read)
