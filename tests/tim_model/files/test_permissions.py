"""Files and folders that the system does not let us read or write: the error says so, and not that a file is broken."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tim_model import TiM, save_checkpoint
from tim_model.files.errors import CheckpointError
from tim_model.files.tensor_files import check_target, read_state_dict
from tim_model.text.files import read_text_encoder_files

from ..broken_files import TINY
from ..rights import without_rights

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody reaches."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_file_without_the_right_to_read(folder, name):
    path = folder / name
    if path.suffix == ".bin":
        torch.save(TiM(TINY).state_dict(), path)
    else:
        save_checkpoint(TiM(TINY), path)
    path.chmod(0)
    with without_rights(), pytest.raises(CheckpointError) as error:
        read_state_dict(path)
    assert str(error.value) == f"{path}: cannot be read (Permission denied); give yourself the right to read it"


def test_folder_without_the_right_to_look_into(folder):
    (folder / "gemma").mkdir()
    (folder / "gemma" / "config.json").write_text("{}")
    (folder / "gemma").chmod(0)
    with without_rights(), pytest.raises(CheckpointError, match="Permission denied.*give yourself the right"):
        read_text_encoder_files(folder / "gemma")


def test_folder_without_the_right_to_write(folder):
    folder.chmod(0o555)
    with without_rights(), pytest.raises(CheckpointError, match="cannot be written to, expected one with that right"):
        check_target(folder / "x.png")
