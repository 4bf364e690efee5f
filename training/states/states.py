"""States of a run on disk: written atomically, read without running code; the newest few and every M-th are kept."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from tim_model.files.errors import unreadable
from tim_model.files.tensor_files import CheckpointError, atomic, one_line

from ..processes.share import joined

FORMAT = 1
NAME = re.compile(r"step-(\d{8,})\.pt")
DAMAGED = (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError)


class States:
    """The states in a folder, named by their step.

    Args:
        keep_last: number of newest states to keep.
        keep_every: also keep states at multiples of this step; 0 for none.
    """

    def __init__(self, folder: Path, keep_last: int, keep_every: int):
        self.folder = folder
        self.keep_last = keep_last
        self.keep_every = keep_every

    def steps(self) -> list[int]:
        """The steps of all states in increasing order."""
        names = (NAME.fullmatch(path.name) for path in self.folder.glob("step-*.pt"))
        return sorted(int(match[1]) for match in names if match)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.pt"

    def newest(self) -> Path | None:
        steps = self.steps()
        return self.path(steps[-1]) if steps else None

    def read_newest(self) -> tuple[dict, list[CheckpointError]]:
        """The newest intact state, and the problems of later ones, for example one truncated by a power cut.

        Raises:
            CheckpointError: none is intact, or the permission to read one is missing.
        """
        problems = []
        for step in reversed(self.steps()):
            if self.path(step).is_file():
                check_right(self.path(step))
            try:
                return read_state(self.path(step)), problems
            except CheckpointError as error:
                problems.append(error)
        raise CheckpointError(f"{problems[0]}; {self.folder} holds no other that is whole")

    def set_aside(self, step: int) -> None:
        """Rename damaged later states, so that they do not count among those to keep."""
        for later in self.steps():
            if later > step:
                self.path(later).replace(self.path(later).with_suffix(".damaged"))

    def save(self, state: dict, prune: bool = True) -> Path:
        """Write the state of `state["step"]` atomically, and remove old states.

        Args:
            prune: whether old states are removed.

        Raises:
            CheckpointError: it cannot be written, as on a full disk; older states are kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.remove_leftovers()
        path = self.path(state["step"])
        try:
            with atomic(path) as temporary:
                torch.save({"format": FORMAT, **state}, temporary)
        except (OSError, RuntimeError) as error:
            good = self.newest()
            advice = f"the newest whole state is {good}" if good else "there is no older state"
            raise CheckpointError(f"{path}: cannot be written ({one_line(error)}); free some space; {advice}") from None
        if prune:
            self.prune()
        return path

    def prune(self) -> None:
        steps = self.steps()
        for step in steps[: -self.keep_last]:
            if not (self.keep_every and step % self.keep_every == 0):
                self.path(step).unlink()

    def remove_leftovers(self) -> None:
        """Temporary files of killed runs."""
        for path in self.folder.glob(".step-*.tmp"):
            path.unlink(missing_ok=True)


def find_state(path: Path) -> Path:
    """The path of a state; for a run folder, of its newest state."""
    if not path.is_dir():
        return path
    newest = States(path / "states", 1, 0).newest()
    if newest is None:
        raise CheckpointError(f"{path}: holds no states, expected a run folder with states/step-N.pt")
    return newest


def check_right(path: Path) -> None:
    """Raise CheckpointError for a file without read permission."""
    try:
        open(path, "rb").close()
    except PermissionError as error:
        raise CheckpointError(f"{path}: {unreadable(error)}") from None
    except OSError:  # such as a folder, which is not a state
        return


def read_state(path: Path) -> dict:
    """A state, on the CPU.

    Raises:
        CheckpointError: a missing, unreadable or damaged file, or not a state.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such state")
    check_right(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=joined())  # one copy for all
    except DAMAGED as error:
        raise CheckpointError(f"{path}: is no whole state ({one_line(error)})") from None
    except Exception as error:  # noqa: BLE001, pickle.UnpicklingError and its kin
        raise CheckpointError(f"{path}: is no state of a training run ({one_line(error)})") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: is no state of a training run, expected one that training.train wrote")
    return state
