"""Networks shared by the tests of the standalone package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tim_model import TiM, load_checkpoint

from .golden import FOLDER


@pytest.fixture(scope="session")
def text_net() -> TiM:
    return load_checkpoint(FOLDER / "t2i_weights.safetensors")


@pytest.fixture(scope="session")
def class_net() -> TiM:
    return load_checkpoint(FOLDER / "c2i_weights.safetensors")


@pytest.fixture(scope="session")
def facts() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the published checkpoints, by layout."""
    folder = Path(__file__).resolve().parent.parent / "facts"
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
