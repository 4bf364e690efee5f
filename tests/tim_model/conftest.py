"""Networks shared by the tests of the standalone package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from devtools.random_stack import MODEL_FILE, TEXT_ENCODER_FILE, VAE_FILE, write_stack
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


class Stack(NamedTuple):
    """Files of a text-to-image stack."""

    model: Path
    text_encoder: Path
    vae: Path


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Small random weights under the names of the published files."""
    pytest.importorskip("diffusers", reason="writes the VAE file")
    folder = tmp_path_factory.mktemp("stack")
    write_stack(folder)
    files = {"diffusion_models": MODEL_FILE, "text_encoders": TEXT_ENCODER_FILE, "vae": VAE_FILE}
    return Stack(*(folder / kind / name for kind, name in files.items()))
