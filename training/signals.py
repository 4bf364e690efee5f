"""The signals that end a run after its step, with a state."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, the end of a job, of a terminal or of a connection


class StopSignals:
    """Whether the first Ctrl-C, termination or hang-up signal has come; the second of its kind ends the process."""

    def __init__(self):
        self.received = False
        self.cutting = False
        self.terminals: list[int] = []

    def listen(self) -> None:
        """Take the signals from here on; only the main thread of a process may. An ignored SIGHUP (nohup) stays so."""
        if threading.current_thread() is not threading.main_thread():
            return
        self.terminals = [stream.fileno() for stream in (sys.__stdout__, sys.__stderr__) if stream and stream.isatty()]
        for name in NAMES:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                signal.signal(number, self.receive)

    def receive(self, number: int, frame: object) -> None:
        first, self.received = not self.received, True
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if number == getattr(signal, "SIGHUP", None):
            self.leave_terminal()
        if first and self.cutting:
            raise KeyboardInterrupt

    def leave_terminal(self) -> None:
        """Write to nowhere what would go to a terminal that is gone: there, it would be an error."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in self.terminals:
            os.dup2(nowhere, number)
        os.close(nowhere)

    def unless(self, work: Callable[..., Result], *arguments: object) -> Result | None:
        """What `work` returns; None where a signal has come before, or comes before its end and cuts it short."""
        self.cutting = True
        try:
            return None if self.received else work(*arguments)
        except KeyboardInterrupt:
            if not self.received:
                raise
            return None
        finally:
            self.cutting = False
