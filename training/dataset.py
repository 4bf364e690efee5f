"""Training data as a list of samples, a list of what was dropped and why, and a way to read one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from .buckets import Size
from .entries import count, some


def printable(text: str) -> str:
    """Text with names of files, which may be no Unicode."""
    return text.encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class Sample:
    """One picture (or latent): where it lies, its content's hash, its size in training and what it shows."""

    name: str  # relative to the folder
    digest: str
    bucket: Size  # (width, height) in pixels, or in cells of ready-made latents
    captions: tuple[str, ...] = ()
    label: int | None = None
    repeats: int = 1  # how often it comes in an epoch


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
    reading: str = ""  # what was taken for what, and why
    notes: list[str] = field(default_factory=list)  # what to know of it, one line each

    def __post_init__(self):
        object.__setattr__(self, "notes", list(map(printable, self.notes)))
        object.__setattr__(self, "reading", printable(self.reading))

    @property
    def captioned(self) -> bool:
        """Whether samples have captions, else they have labels."""
        return bool(self.samples[0].captions)

    @property
    def num_classes(self) -> int:
        """Labels are below this."""
        return max(len(self.class_names), 1 + max(sample.label for sample in self.samples))

    def digest(self) -> str:
        """Changes with every picture, caption, label, size and number of repeats; states and weights keep it."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        rows = ((s.digest, s.bucket, s.captions, s.label, *[s.repeats] * (s.repeats > 1)) for s in self.samples)
        return hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest()

    def table(self, batches: str = "") -> str:
        """How the folder was read, buckets with their counts, classes, and every dropped file with its reason.

        Args:
            batches: how full they are, in one line.
        """
        buckets = Counter(sample.bucket for sample in self.samples)
        epoch = sum(sample.repeats for sample in self.samples)
        repeated = f", {epoch} an epoch" if epoch > len(self.samples) else ""
        first = f"data: {len(self.samples)} samples with {self.kind()}{repeated}, layout: {self.layout}"
        lines = [first, *self.remarks()]
        lines += [f"  {width}x{height}: {n}" for (width, height), n in sorted(buckets.items())]
        lines += [batches] if batches else []
        lines += [] if self.captioned else [f"classes: {some(self.class_counts(), 1000)}"]
        lines += [f"dropped: {len(self.dropped)}"]
        lines += [f"  {name}: {reason}" for name, reason in self.dropped]
        return printable("\n".join(lines))

    def kind(self) -> str:
        """What samples show, such as "2 classes"."""
        if self.captioned:
            return "captions"
        used = len({sample.label for sample in self.samples})
        part = f" ({used} of them found)" if used < self.num_classes else ""
        return count(self.num_classes, "class", "classes") + part

    def remarks(self) -> list[str]:
        """How the folder was read, and what to know of it."""
        return [f"read: {self.reading}", *(f"note: {note}" for note in self.notes)]

    def class_counts(self) -> list[str]:
        """Number, name and samples of each class that has some."""
        counts = Counter(sample.label for sample in self.samples)
        names = {i: f" {name}" for i, name in enumerate(self.class_names)}
        return [f"{label}{names.get(label, '')}: {n}" for label, n in sorted(counts.items())]
