"""What a bulk run draws: its files, their prompts, and the request of each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..files.tensor_files import remove_leftovers
from ..request import Request
from .batches import sample_seed
from .layouts import DPG, Sample, Target, is_whole
from .prompts import Prompt, Size
from .settings import prompts_digest

Batch = Sequence[Target]


@dataclass(frozen=True)
class Job:
    """What to draw and where to.

    Attributes:
        prompts: the prompts of a text model, or the labels of a class model; the indices in samples count them.
        targets: the files in the folder of each number of steps.
        folders: the folder of each number of steps.
        size: of images whose prompt states none.
        request: the request for one image of a size in a number of steps, in which prompt and seed are replaced.
        batch: images drawn together.
        seed: of all images; each has its own from it.
        files: what else the images depend on: names and digests of files, and the dtype.
    """

    prompts: Sequence[Prompt]
    targets: Sequence[Target]
    layout: str
    folders: Mapping[int, Path]
    size: Size
    request: Callable[[Size, int], Request]
    batch: int
    seed: int
    files: Mapping[str, str]

    def size_of(self, target: Target) -> Size:
        """(width, height) of each image of a file."""
        return self.prompts[target.prompt].size or self.size

    def is_done(self, target: Target, steps: int) -> bool:
        """Whether the file is there and whole; one that is damaged is reported."""
        path = self.folders[steps] / target.path
        if not path.is_file():
            return False
        if not (whole := is_whole(path, target.size(self.size_of(target)))):
            print(f"warning: {path}: is damaged or of another size, it is drawn again", file=sys.stderr)
        return whole


def missing_of(job: Job, batches: Sequence[Batch]) -> list[tuple[Batch, dict[int, list[Target]]]]:
    """The batches that are not done, and the files that each number of steps lacks of them.

    What a killed run left of those files is removed.
    """
    found = []
    for batch in batches:
        missing = {steps: [target for target in batch if not job.is_done(target, steps)] for steps in job.folders}
        found.append((batch, {steps: targets for steps, targets in missing.items() if targets}))
    files = [job.folders[steps] / t.path for _, missing in found for steps, targets in missing.items() for t in targets]
    remove_leftovers(files)
    return [(batch, missing) for batch, missing in found if missing]


def for_samples(job: Job, request: Request, samples: Sequence[Sample]) -> Request:
    """The request for these samples, each with its own seed."""
    texts = tuple(job.prompts[sample.prompt].text for sample in samples)
    seeds = tuple(sample_seed(job.seed, sample) for sample in samples)
    return replace(request, **{"classes" if request.prompts is None else "prompts": texts}, seed=seeds)


def image_settings(job: Job, target: Target, steps: int) -> dict[str, object]:
    """What makes the images of a file again."""
    request = for_samples(job, job.request(job.size_of(target), steps), target.samples)
    return {**job.files, **request.metadata(), "seed": ", ".join(map(str, request.seed))}


def settings_of(job: Job, steps: int) -> dict[str, object]:
    """What the images of a folder depend on."""
    shared = replace(job.request(job.size, steps), seed=job.seed).metadata()
    shared = {name: value for name, value in shared.items() if name not in ("prompt", "class")}
    grid = {"images_per_prompt": len(job.targets[0].samples)} if job.layout == DPG else {}
    return {"layout": job.layout, **grid, "prompts": prompts_digest(job.prompts), **job.files, **shared}
