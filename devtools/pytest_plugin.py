"""Keeps pytest from taking the checkout for a Python package: its __init__.py is for a ComfyUI to import.

At the end it lists what was skipped, why, and the command that changes it.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LISTS = "pip install -r requirements-dev.txt -r training/requirements.txt"
REMEDIES = {  # part of the reason for a skip -> the command that changes it; the first that fits counts
    "Chromium": "apt-get install chromium, or python -m playwright install chromium",
    "Fashion-MNIST": "apt-get install dataset-fashion-mnist",
    "python dev.py test": "python dev.py test",
    "'wandb'": "pip install wandb",  # of no list: few users have it
    "could not import": LISTS,
    "is not installed": LISTS,
    "the VAE": LISTS,  # which diffusers writes and computes
}


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was skipped, why, and the command that changes it."""
    skipped: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        path, _, reason = report.longrepr
        skipped[reason.removeprefix("Skipped: ")].append(Path(path).name)
    if skipped:
        terminalreporter.section("skipped")
    for reason, files in skipped.items():
        command = next((command for part, command in REMEDIES.items() if part in reason), "none, this machine lacks it")
        places = ", ".join(dict.fromkeys(files))
        terminalreporter.line(f"{len(files)} in {places}: {reason}\n    to change it: {command}")
