"""Names and contents of files as those who evaluate images read them.

geneval: <five digits>/metadata.jsonl, the prompt's line, and <five digits>/samples/0000.png (evaluate_images.py).
dpg: <name of the text file>.png, its images side by side in two columns (compute_dpg_bench.py of DPG-Bench).
mjhq: <category>/<name>.jpg, as the references of MJHQ-30K and the scripts for their FID and CLIP score.
npz: <six digits>.png, which one array file holds at the end (evaluator.py of ADM). plain: <six digits>-<two>.png.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ..files.tensor_files import atomic, write_text, writing
from ..images import save_png
from .prompts import Prompt, Size

PLAIN, GENEVAL, DPG, MJHQ, NPZ = LAYOUTS = ("plain", "geneval", "dpg", "mjhq", "npz")
DEFAULT_COUNTS = {PLAIN: 1, GENEVAL: 4, DPG: 4, MJHQ: 1}  # images of each prompt, as they are evaluated
COLUMNS = 2  # of the images in a file of dpg
JPEG_QUALITY = 75  # of mjhq, as released and as Pillow's default


class Sample(NamedTuple):
    """One image: the index of its prompt, and its own among the images of that prompt."""

    prompt: int
    image: int


@dataclass(frozen=True)
class Target:
    """A file to write, relative to its folder, and the images that it holds side by side."""

    path: Path
    samples: tuple[Sample, ...]

    @property
    def prompt(self) -> int:
        return self.samples[0].prompt

    def size(self, size: Size) -> Size:
        """(width, height) of the file for images of that size."""
        columns = min(COLUMNS, len(self.samples))
        return columns * size[0], -(-len(self.samples) // columns) * size[1]


def prompt_targets(layout: str, prompts: Sequence[Prompt], count: int) -> list[Target]:
    """The files of `count` images of each prompt.

    Raises:
        ValueError: prompts that the layout cannot hold.
    """
    check_layout(layout, prompts, count)
    if layout == DPG:
        return [Target(Path(f"{p.name}.png"), tuple(Sample(i, j) for j in range(count))) for i, p in enumerate(prompts)]
    names: dict[str, Callable[[int, int], str]] = {
        PLAIN: lambda i, j: f"{i:06}-{j:02}.png",
        GENEVAL: lambda i, j: f"{i:05}/samples/{j:04}.png",
        MJHQ: lambda i, j: f"{prompts[i].name}.jpg",
    }
    return [Target(Path(names[layout](i, j)), (Sample(i, j),)) for i in range(len(prompts)) for j in range(count)]


def class_targets(classes: int, count: int) -> list[Target]:
    """The files of `count` images, every class as often as the others up to one; a sample's prompt is its class."""
    return [Target(Path(f"{k:06}.png"), (Sample(k % classes, k // classes),)) for k in range(count)]


def check_layout(layout: str, prompts: Sequence[Prompt], count: int) -> None:
    """ValueError for prompts without the names or lines that the layout needs, or numbers that it cannot hold."""
    first = prompts[0]
    if layout == NPZ:
        raise ValueError("--layout npz: expected --classes, it is for class models")
    if layout == GENEVAL and not first.line:
        raise ValueError("--layout geneval: expected --prompts FILE.jsonl, such as GenEval's evaluation_metadata.jsonl")
    if layout == DPG and (not first.name or "/" in first.name):
        raise ValueError("--layout dpg: expected --prompts FOLDER with a .txt file for each prompt")
    if layout == MJHQ and "/" not in first.name:
        raise ValueError("--layout mjhq: expected --prompts meta_data.json, the file of MJHQ-30K")
    if layout == MJHQ and count > 1:
        raise ValueError(f"--images-per-prompt {count} with --layout mjhq: expected 1, a file for each name")
    if layout == DPG and count > COLUMNS**2:
        raise ValueError(
            f"--images-per-prompt {count} with --layout dpg: expected 1 to 4, which are read from one file"
        )


def check_sizes(layout: str, sizes: Sequence[Size]) -> None:
    """ValueError for sizes that the layout's reader would cut wrongly."""
    if layout == DPG and len({side for size in sizes for side in size}) > 1:
        raise ValueError("--layout dpg: images of several sizes or not square, expected one side, which is cut out by")
    if layout == NPZ and len(set(sizes)) > 1:
        raise ValueError("--layout npz: images of several sizes, expected one, for one array")


def write_metadata(layout: str, prompts: Sequence[Prompt], targets: Sequence[Target], folder: Path) -> None:
    """Write what evaluation reads beside the images: for geneval, each prompt's line."""
    for index in sorted({target.prompt for target in targets} if layout == GENEVAL else ()):
        path, line = folder / f"{index:05}" / "metadata.jsonl", prompts[index].line + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != line:
            write_text(path, line)


def write_image(path: Path, images: Sequence[Image.Image], settings: Mapping[str, object]) -> None:
    """Write the images of a target as one file, atomically, with their settings inside.

    Raises:
        CheckpointError: it cannot be written.
    """
    image = images[0] if len(images) == 1 else side_by_side(images)
    with writing(path):
        if path.suffix == ".png":
            save_png(image, path, settings)
        else:
            save_jpeg(image, path, settings)


def save_jpeg(image: Image.Image, path: str | os.PathLike, settings: Mapping[str, object]) -> None:
    """Write a JPEG atomically, with one line "tim.<name>: value" for each setting in its comment."""
    comment = "\n".join(f"tim.{name}: {value}" for name, value in settings.items())
    with atomic(path) as temporary:
        image.save(temporary, format="JPEG", quality=JPEG_QUALITY, comment=comment.encode()[:65000])


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Images of one size in two columns, row by row, without gaps; what is left over is black."""
    width, height = images[0].size
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, rows * height))
    for k, image in enumerate(images):
        sheet.paste(image, (k % COLUMNS * width, k // COLUMNS * height))
    return sheet


def is_whole(path: Path, size: Size) -> bool:
    """Whether the file is an image of that size that can be decoded to its end."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.size == size
    except (OSError, SyntaxError, ValueError):  # the kinds of Pillow's decoders
        return False
