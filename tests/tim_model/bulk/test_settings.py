"""The settings beside a folder: written once, compared ever after; digests of files and prompts."""

from __future__ import annotations

import json

import pytest

from tim_model.bulk.prompts import Prompt
from tim_model.bulk.settings import check_settings, file_digest, prompts_digest

SETTINGS = {"model": "tim 12", "steps": 4, "times": "1, 0"}


def test_settings_are_beside_the_folder(tmp_path):
    check_settings(tmp_path / "images", SETTINGS, {"batch": 8})
    content = json.loads((tmp_path / "images.json").read_text())
    assert content == {"settings": SETTINGS, "run": {"batch": 8}}


def test_the_run_may_change_and_settings_may_not(tmp_path):
    check_settings(tmp_path / "images", SETTINGS, {"batch": 8})
    check_settings(tmp_path / "images", SETTINGS, {"batch": 2})
    assert json.loads((tmp_path / "images.json").read_text())["run"] == {"batch": 2}
    for other in (SETTINGS | {"steps": 8}, SETTINGS | {"cfg": 1}, {**SETTINGS, "model": "tim 13"}):
        with pytest.raises(ValueError, match="images.json: the images there are of .* or another --out"):
            check_settings(tmp_path / "images", other, {})
    assert json.loads((tmp_path / "images.json").read_text())["settings"] == SETTINGS


def test_images_without_settings_are_not_added_to(tmp_path):
    (tmp_path / "images").mkdir()
    check_settings(tmp_path / "images", SETTINGS, {})
    (tmp_path / "images.json").unlink()
    (tmp_path / "images" / "000000-00.png").touch()
    with pytest.raises(ValueError, match=r"images.json beside it is missing"):
        check_settings(tmp_path / "images", SETTINGS, {})


@pytest.mark.parametrize("content", ["", "[]", '{"settings": 3}'])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "images.json").write_text(content)
    with pytest.raises(ValueError, match="images.json"):
        check_settings(tmp_path / "images", SETTINGS, {})
    assert (tmp_path / "images.json").read_text() == content


def test_digest_of_prompts():
    prompts = [Prompt("a fox"), Prompt("a hat", (64, 64))]
    same = prompts_digest([Prompt("a fox"), Prompt("a hat", (64, 64))])
    assert prompts_digest(prompts) == same and len(same) == 16
    others = [prompts[:1], prompts[::-1], [Prompt("a fox"), Prompt("a hat")], [Prompt("a fox", name="x"), prompts[1]]]
    assert len({same, *map(prompts_digest, others)}) == 5


def test_digest_of_files(tmp_path):
    """Every size up to 64 blocks is read whole; of a larger one, blocks up to its end."""
    path = tmp_path / "weights"
    content = bytearray(range(256)) * 2**15  # 8 MB
    path.write_bytes(content)
    whole = file_digest(path)
    content[2**16 * 2 + 5] ^= 1  # in the second block of those that are read
    path.write_bytes(content)
    assert file_digest(path) != whole
    path.write_bytes(content[:-1])
    assert len({whole, file_digest(path), file_digest(tmp_path)}) == 2  # of a folder: that of its files
    path.write_bytes(b"")
    assert len(file_digest(path)) == 16
