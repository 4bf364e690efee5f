"""A lock on a run folder, so that two runs do not mix their states and logs in it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import IO

from tim_model.files.tensor_files import one_line, writing

from ..config.load import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

NAME = ".lock"
FAR = 2**30  # Windows locks this byte; others can still read the bytes before it


class RunLock:
    """A lock that one process holds at a time, on a file in the run folder that names the process.

    The system releases the lock when the process ends for any reason; a leftover file does not lock.
    """

    def __init__(self, folder: Path):
        self.path = folder / NAME
        self.file: IO | None = None

    @property
    def held(self) -> bool:
        return self.file is not None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Acquire the lock, unless this object holds it.

        Raises:
            ConfigError: another run holds it, on this machine or, if the file system shares locks, on another one.
            CheckpointError: the file cannot be written.
        """
        if self.held:
            return
        with writing(self.path):
            file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115, open as long as the lock is held
        try:
            lock_file(file)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().strip()
            file.close()
            raise ConfigError(
                f"run.folder={self.path.parent}: another run works in it{f' ({holder})' if holder else ''}; wait for "
                "it, stop it, or choose another run.folder"
            ) from None
        except OSError as error:
            print(f"{self.path}: this file system cannot lock ({one_line(error)}); start no second run in the folder")
        self.file = file
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()

    def release(self) -> None:
        """Release the lock; the file remains, empty."""
        if self.file is not None:
            self.file.truncate(0)
            self.file.close()
            self.file = None


def lock_file(file: IO) -> None:
    """Lock an open file without waiting.

    Raises:
        BlockingIOError, PermissionError: another process has locked it.
        OSError: the file system cannot.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    file.seek(FAR)
    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
