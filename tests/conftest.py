"""Settings shared by all tests. Everything must work without a network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.update(HF_HUB_OFFLINE="1", DO_NOT_TRACK="1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # on models this small, threads mostly wait for one another

ROOT = Path(__file__).resolve().parent.parent


def pytest_report_header() -> str:
    return f"ComfyUI host: {os.environ.get('TIM_HOST_DIR', 'none, so host tests are skipped')}"


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT
