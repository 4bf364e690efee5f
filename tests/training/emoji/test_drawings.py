"""training.emoji.drawings: packages are checked and unpacked, and what is missing is named."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from devtools.emoji_drawings import main as fetch
from training.emoji.__main__ import main
from training.emoji.drawings import PACKAGES, drawing_path, read_drawings, unpack, unpack_all
from training.emoji.things import STYLES, THINGS

from .stand_ins import FETCHED, stand_in, write_stand_ins


def write_package(package, path: Path) -> Path:
    """A package with stand-ins where the real one has its drawings."""
    with tarfile.open(path, "w:gz") as archive:
        for thing, (_, code) in THINGS.items():
            content = io.BytesIO()
            stand_in(thing).save(content, format="WEBP" if "webp" in package.member else "PNG", lossless=True)
            info = tarfile.TarInfo(package.member.format(code=code))
            info.size = len(content.getvalue())
            archive.addfile(info, io.BytesIO(content.getvalue()))
    return path


def test_every_style_has_a_package():
    assert tuple(package.style for package in PACKAGES) == STYLES
    assert PACKAGES[1].file == "lobehub-fluent-emoji-3d-1.1.0.tgz"


def test_packages_become_drawings(tmp_path):
    for package in PACKAGES:
        unpack(package, write_package(package, tmp_path / package.file), tmp_path / "drawings")
    drawings = read_drawings(tmp_path / "drawings")
    assert set(drawings) == {(style, thing) for style in STYLES for thing in THINGS}
    for (_, thing), image in drawings.items():
        assert image.mode == "RGBA" and image.size == (40, 40)
        assert image.getpixel((20, 20)) == stand_in(thing).getpixel((20, 20))


def test_another_package_is_refused(tmp_path):
    path = write_package(PACKAGES[0], tmp_path / PACKAGES[0].file)
    with pytest.raises(ValueError, match=f"{path.name}: has the sha256 .* expected {PACKAGES[0].sha256}"):
        unpack_all(tmp_path / "drawings", downloads=tmp_path)
    assert not (tmp_path / "drawings").exists()


def test_drawings_that_are_there_need_no_package(tmp_path):
    unpack_all(write_stand_ins(tmp_path))


def test_without_packages_one_line_says_what_to_do(tmp_path, capsys):
    assert main(["unpack", str(tmp_path / "drawings")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and PACKAGES[0].file in error and "python -m devtools.emoji_drawings" in error


def test_without_npm_fetching_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=f"npm is not installed, expected .*{PACKAGES[0].file}"):
        fetch([str(tmp_path / "drawings")])


def test_a_missing_drawing_is_named(tmp_path):
    write_stand_ins(tmp_path)
    path = drawing_path(tmp_path, "3d", "hot dog")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="hot_dog.png: missing or damaged"):
        read_drawings(tmp_path)


@pytest.mark.skipif(not FETCHED.is_dir(), reason="python -m devtools.emoji_drawings runs/emoji/drawings")
def test_real_drawings_are_there_for_all_things():
    drawings = read_drawings(FETCHED)
    assert len(drawings) == len(STYLES) * len(THINGS)
    assert all(isinstance(image, Image.Image) and min(image.size) > 15 for image in drawings.values())
