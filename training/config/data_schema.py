"""The settings of a training run's data, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal


@dataclass(frozen=True)
class FolderConfig:
    """One of several data folders.

    Raises:
        ValueError: a number out of range.
    """

    path: str = ""
    weight: float = 1.0  # how often an epoch holds each of its samples: 3 is three times, 0.5 every other epoch
    loss_weight: float = 1.0  # factor of the loss of its samples; "prior_loss_weight" of a regularization folder
    # images of what the model shall not forget: without data.instance_prompt and data.trigger_word, never held out
    regularization: bool = False
    instance_prompt: str = ""  # caption of its images without one; data.instance_prompt where empty
    trigger_word: str = ""  # starts its captions; data.trigger_word where empty

    def __post_init__(self):
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"weight={self.weight:g}: expected a number above 0, how often an epoch holds each sample")
        if not 0 <= self.loss_weight < float("inf"):
            raise ValueError(f"loss_weight={self.loss_weight:g}: expected a number from 0")


@dataclass(frozen=True)
class DataConfig:
    """The samples and how they become batches."""

    path: str = ""
    # instead of path: several folders, each with settings of its own, such as [{path: photos, weight: 2}, {path: more}]
    folders: list[FolderConfig] = field(default_factory=list)
    batch_size: int = 256  # samples per optimizer step, over all processes and passes
    resolution: int = 256  # buckets hold at most resolution**2 pixels
    # pixels: sides of buckets are multiples of it, and images of rare buckets move to others, to fill batches;
    # coarser crops more. 0 is a sixteenth of the resolution, 1 trains each image at its own size, as published
    bucket_step: int = 0
    max_aspect: float = 2.0
    square: bool = False  # crop every image to resolution x resolution
    mirror: bool = False  # add a mirrored copy of every sample
    dropout: float = 0.1  # share of samples trained without caption or class, for guidance
    held_out: int = 0  # samples kept for the held-out loss
    class_names: list[str] = field(default_factory=list)  # in the order of the labels; makes folders classes
    on_problem: Literal["skip", "stop"] = "skip"  # what to do about files that cannot be used
    cache: str = "runs/cache"  # latents, text features and checks of files
    workers: int = 2  # threads that read ahead; 0 reads in the loop itself
    instance_prompt: str = ""  # caption of images without a caption file; folders without captions are no classes then
    trigger_word: str = ""  # starts every caption that does not contain it
    caption_per_line: bool = False  # each line of a caption is a caption of its own: an epoch draws one of them
    shuffle_tags: int = 0  # orders of the tags (texts between commas) of each caption: an epoch draws one; 0 for none
    keep_tags: int = 0  # first tags that stay in front
    masks: bool = False  # NAME-masklabel.png beside NAME.png weighs the loss: white counts, black is unmasked_weight
    unmasked_weight: float = 0.0  # of the loss where a mask is black

    @property
    def sources(self) -> list[FolderConfig]:
        """The data folders, with the settings that they take from here; `path` alone is one."""
        common = {name: getattr(self, name) for name in ("instance_prompt", "trigger_word")}
        own = self.folders or [FolderConfig(self.path)]
        return [
            f if f.regularization else replace(f, **{n: getattr(f, n) or v for n, v in common.items()}) for f in own
        ]

    @property
    def place(self) -> str:
        """The data folders as the recipe names them, for messages."""
        if self.folders:
            return f"data.folders=[{', '.join(folder.path for folder in self.folders)}]"
        return f"data.path={self.path}"
