"""Fetch the emoji drawings of EmojiScenes: python -m devtools.emoji_drawings FOLDER

Needs npm, which downloads three packages of 150 MB together into FOLDER; the drawings of its things are unpacked there.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

from training.emoji.drawings import PACKAGES, Package, is_unpacked, unpack_all


def fetch(folder: Path) -> None:
    """Let npm download the packages that are not there, and unpack them.

    Raises:
        ValueError: npm is missing or failed, or a package is not the one that was pinned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not is_unpacked(package, folder) and not (folder / package.file).is_file():
            download(package, folder)
    unpack_all(folder)


def download(package: Package, folder: Path) -> None:
    """Let npm download one package."""
    npm, named = shutil.which("npm"), f"{package.name}@{package.version}"
    if npm is None:
        raise ValueError(f"npm is not installed, expected it (it comes with Node.js) or {folder / package.file}")
    command = [npm, "pack", named]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode or not (folder / package.file).is_file():
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"npm pack {named} failed ({reason}), expected {folder / package.file}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m devtools.emoji_drawings", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the drawings go, runs/emoji/drawings for the recipes")
    folder = parser.parse_args(argv).folder
    try:
        fetch(folder)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"drawings are in {folder}")


if __name__ == "__main__":
    main()
