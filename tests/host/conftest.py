"""Host tests drive one real ComfyUI, booted once per run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.server import Host, prepare_base, stop_on_terminate
from devtools.templates.start import offer_start

# Nodes of other packs, as far as tests need them.
PACKS = sorted(Path(__file__).with_name("packs").glob("*.py"))


@pytest.fixture(scope="session")
def host_dir() -> Path:
    """The folder of the ComfyUI under test."""
    if "TIM_HOST_DIR" not in os.environ:
        pytest.skip("no ComfyUI to test with; run `python dev.py test`")
    return Path(os.environ["TIM_HOST_DIR"])


@pytest.fixture(scope="session")
def host_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's base directory: models/, input/, output/, custom_nodes/ with this pack linked in and test nodes."""
    base = prepare_base(tmp_path_factory.mktemp("host"))
    for pack in PACKS:
        shutil.copy(pack, base / "custom_nodes")
    offer_start(base)
    return base


@pytest.fixture(scope="session")
def host(host_dir: Path, host_base: Path) -> Iterator[Host]:
    """A running ComfyUI with this pack, on the CPU."""
    stop_on_terminate()
    with Host(host_dir, host_base) as host:
        yield host


@pytest.fixture(scope="session")
def stack(host_base: Path) -> Path:
    """The host's models folder, with a small random text-to-image stack under the names of the published files."""
    pytest.importorskip("diffusers", reason="writes the VAE file")
    from devtools.random_stack import write_stack

    write_stack(host_base / "models")
    return host_base / "models"


@pytest.fixture(scope="session")
def pipeline(stack: Path) -> Any:
    """The stack without a host: the truth for its graphs."""
    from devtools.random_stack import MODEL_FILE, TEXT_ENCODER_FILE, VAE_FILE
    from tim_model import TiMPipeline

    return TiMPipeline.from_files(
        stack / "diffusion_models" / MODEL_FILE, stack / "text_encoders" / TEXT_ENCODER_FILE, stack / "vae" / VAE_FILE,
        device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="session")
def demo_pipeline() -> Any:
    """The bundled text-to-image stack without a host."""
    pytest.importorskip("diffusers", reason="computes the VAE")
    from tim_model import TiMPipeline
    from training.evaluation.bundled import BUNDLED

    return TiMPipeline.from_files(BUNDLED["model"], BUNDLED["text_encoder"], BUNDLED["vae"], device="cpu")


@pytest.fixture(scope="session")
def to_api(host: Host) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Converts a workflow as the browser saves it to the form that the host queues."""
    from comfy_cli.workflow_to_api import convert_ui_to_api

    object_info = host.object_info()
    return lambda workflow: convert_ui_to_api(workflow, object_info)
