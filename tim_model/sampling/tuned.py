"""Tuned schedules as a JSON file beside a checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..files.errors import CheckpointError, prefix_errors
from ..files.tensor_files import write_text
from .schedule import check_times

FORMAT = "tim-schedules-1"
TUNED = "tuned"  # the kind of schedule that they are in nodes and on the command line


@dataclass(frozen=True)
class TunedSchedules:
    """The times from 1 to 0 for each number of steps that was tuned, and the guidance scale that they are for.

    Raises:
        ValueError: times that do not fall from 1 to 0, or are not as many as their steps say.
    """

    times: Mapping[int, list[float]]
    cfg: float = 1.0

    def __post_init__(self):
        for steps, times in self.times.items():
            check_times(times)
            if len(times) != steps + 1 or (times[0], times[-1]) != (1.0, 0.0):
                raise ValueError(f"tuned schedule of {steps} steps: {times}, expected {steps + 1} times from 1 to 0")

    def of(self, steps: int) -> list[float]:
        """The times of that many steps; ValueError where they were not tuned."""
        if steps not in self.times:
            known = ", ".join(map(str, sorted(self.times)))
            raise ValueError(f"schedule tuned with steps={steps}: this model has it for {known} steps")
        return self.times[steps]


def schedules_path(model: str | os.PathLike) -> Path:
    """Where the tuned schedules of a checkpoint are: beside it."""
    return Path(model).with_suffix(".schedules.json")


def read_schedules(model: str | os.PathLike) -> TunedSchedules:
    """The tuned schedules of a checkpoint.

    Raises:
        CheckpointError: it has none, or the file is not one of `write_schedules`.
    """
    path = schedules_path(model)
    if not path.is_file():
        raise CheckpointError(
            f"{Path(model).name} has no tuned schedules: expected {path.name} beside it, of "
            "python -m tim_model tune-schedule, or another schedule"
        )
    with prefix_errors(path):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise KeyError
            times = {int(steps): [float(t) for t in row] for steps, row in content["times"].items()}
            return TunedSchedules(times, float(content["cfg"]))
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError):
            raise CheckpointError(
                "holds no tuned schedules, expected a file of python -m tim_model tune-schedule"
            ) from None


def write_schedules(schedules: TunedSchedules, path: Path) -> None:
    """Write the schedules as JSON, a line for each number of steps."""
    rows = ",\n".join(f'    "{steps}": {json.dumps(times)}' for steps, times in sorted(schedules.times.items()))
    text = f'{{\n  "format": "{FORMAT}",\n  "cfg": {schedules.cfg:g},\n  "times": {{\n{rows}\n  }}\n}}\n'
    write_text(path, text)
