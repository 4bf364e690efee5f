"""What refusals print, and what they leave on disk."""

from __future__ import annotations

import re
from pathlib import Path

PROGRESS = re.compile(r"checking files|encoding|\d+%\|")


def error_of(capsys, status: int) -> str:
    """The one line that a refusal prints, apart from progress bars."""
    assert status == 1
    printed = capsys.readouterr().err.replace("\r", "\n").splitlines()
    lines = [line for line in printed if line.strip() and not PROGRESS.match(line.strip())]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
