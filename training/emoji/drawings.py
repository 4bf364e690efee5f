"""The emoji drawings: unpacking them from the packages that hold them, and reading them.

Licenses: Noto Emoji, Apache-2.0 (Google); Fluent Emoji 3D, MIT (Microsoft); Twemoji, CC BY 4.0 (Twitter and others).
"""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tim_model.files.tensor_files import atomic

from .things import THINGS


@dataclass(frozen=True)
class Package:
    """An npm package with a drawing for each thing; `member` is the path of one in it."""

    style: str  # in `STYLES`
    name: str
    version: str
    sha256: str
    member: str

    @property
    def file(self) -> str:
        """The file name that npm pack gives it."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


PACKAGES = (
    Package(
        "noto", "emoji-datasource-google", "16.0.0",
        "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438", "package/img/google/64/{code}.png",
    ),
    Package(
        "3d", "@lobehub/fluent-emoji-3d", "1.1.0",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58", "package/assets/{code}.webp",
    ),
    Package(
        "flat", "emoji-datasource-twitter", "16.0.0",
        "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877", "package/img/twitter/64/{code}.png",
    ),
)  # fmt: skip

Drawings = dict[tuple[str, str], Image.Image]  # by style and thing; RGBA


def unpack_all(folder: Path, downloads: Path | None = None) -> None:
    """Unpack the drawings of all packages as folder/STYLE/THING.png; what is there is kept.

    Args:
        downloads: where the packages' .tgz files are; in `folder` if None.

    Raises:
        ValueError: a package is missing, or not the one that was pinned.
    """
    for package in PACKAGES:
        if is_unpacked(package, folder):
            continue
        path = (downloads or folder) / package.file
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file, expected the npm package {package.name}@{package.version}; "
                f"python -m devtools.emoji_drawings {folder} fetches and unpacks all of them"
            )
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != package.sha256:
            raise ValueError(f"{path}: has the sha256 {found}, expected {package.sha256}; delete it and fetch it again")
        unpack(package, path, folder)


def is_unpacked(package: Package, folder: Path) -> bool:
    return all(drawing_path(folder, package.style, thing).is_file() for thing in THINGS)


def unpack(package: Package, path: Path, folder: Path) -> None:
    """Write one package's drawings of all things."""
    with tarfile.open(path) as archive:
        for thing, (_, code) in THINGS.items():
            member = archive.extractfile(package.member.format(code=code))
            target = drawing_path(folder, package.style, thing)
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic(target) as temporary, Image.open(member) as drawing:
                drawing.convert("RGBA").save(temporary, format="PNG")


def drawing_path(folder: Path, style: str, thing: str) -> Path:
    return folder / style / f"{thing.replace(' ', '_')}.png"


def read_drawings(folder: Path) -> Drawings:
    """All drawings of a folder of `unpack_all`, cropped to what is not transparent.

    Raises:
        ValueError: one is missing or cannot be read.
    """
    drawings: Drawings = {}
    for style in (package.style for package in PACKAGES):
        for thing in THINGS:
            path = drawing_path(folder, style, thing)
            try:
                with Image.open(path) as drawing:
                    image = drawing.convert("RGBA")
            except OSError:
                raise ValueError(f"{path}: missing or damaged, expected one of training.emoji unpack") from None
            drawings[style, thing] = image.crop(image.getchannel("A").getbbox())
    return drawings
