"""Training data: a list of readable samples, and a list of dropped files with the reasons."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from .buckets import Size
from .layouts.entries import count, some


def printable(text: str) -> str:
    """Text with file names, whose invalid Unicode is escaped."""
    return text.encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class Sample:
    """One image (or latent): its file, the hash of its content, its size in training and its captions or label."""

    name: str  # relative to the folder
    digest: str
    bucket: Size  # (width, height) in pixels, or in cells of ready-made latents
    captions: tuple[str, ...] = ()
    label: int | None = None
    repeats: int = 1  # how often an epoch contains it
    folder: int = 0  # which of the data folders it is from
    mask: str = ""  # the file of its loss mask, relative to the folder
    mask_digest: str = ""


@dataclass(frozen=True)
class Dataset:
    """Samples in an order that does not depend on the file system. There is a subclass for each kind of files."""

    latent: ClassVar[bool] = False  # True for latents, False for pixels
    layout: str
    samples: list[Sample]
    dropped: list[tuple[str, str]]  # file and reason
    class_names: list[str]
    channels: int = 3
    reading: str = ""  # how the folder was interpreted, and why
    notes: list[str] = field(default_factory=list)  # remarks for the user, one line each

    def __post_init__(self):
        object.__setattr__(self, "notes", list(map(printable, self.notes)))
        object.__setattr__(self, "reading", printable(self.reading))

    def read(self, i: int, mirrored: bool) -> Tensor:
        """Sample `i`: pixels (3,H,W) in [-1, 1], or scaled latents (channels,h,w)."""
        raise NotImplementedError

    def read_mask(self, i: int, mirrored: bool) -> Tensor:
        """The loss mask of sample `i`, (1,H,W) in [0, 1]; 1 everywhere without a mask."""
        raise NotImplementedError

    @property
    def captioned(self) -> bool:
        """True if samples have captions, False if they have labels."""
        return bool(self.samples[0].captions)

    @property
    def num_classes(self) -> int:
        """The number of classes; labels are smaller."""
        return max(len(self.class_names), 1 + max(sample.label for sample in self.samples))

    def digest(self) -> str:
        """A hash of all images, masks, captions, labels, sizes and repeats; states and weights record it."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        more = ((*[s.repeats] * (s.repeats > 1), *[s.mask_digest] * bool(s.mask)) for s in self.samples)
        rows = ((s.digest, s.bucket, s.captions, s.label, *rest) for s, rest in zip(self.samples, more, strict=True))
        return hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest()

    def table(self, batches: str = "") -> str:
        """How the folder was read, buckets with their counts, classes, and every dropped file with its reason.

        Args:
            batches: a line on how full the batches are.
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
        """The kind of conditioning, such as "captions" or "2 classes"."""
        if self.captioned:
            return "captions"
        used = len({sample.label for sample in self.samples})
        part = f" ({used} of them found)" if used < self.num_classes else ""
        return count(self.num_classes, "class", "classes") + part

    def remarks(self) -> list[str]:
        """How the folder was read, and remarks on it."""
        return [f"read: {self.reading}", *(f"note: {note}" for note in self.notes)]

    def class_counts(self) -> list[str]:
        """Number, name and sample count of each class that has samples."""
        counts = Counter(sample.label for sample in self.samples)
        names = {i: f" {name}" for i, name in enumerate(self.class_names)}
        return [f"{label}{names.get(label, '')}: {n}" for label, n in sorted(counts.items())]
