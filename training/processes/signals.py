"""Signals that end a run after the current step, with a saved state."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, termination of a job, end of a terminal or connection


class StopSignals:
    """Records the first Ctrl-C, termination or hang-up signal; a second one of its kind ends the process."""

    def __init__(self):
        self.received = False
        self.cutting = False
        self.terminals: list[int] = []

    def install(self) -> None:
        """Handle the signals from now on; main thread only. An ignored SIGHUP (nohup) remains ignored."""
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
        """Discard output to a closed terminal, which would otherwise raise errors."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in self.terminals:
            os.dup2(nowhere, number)
        os.close(nowhere)

    def unless(self, work: Callable[..., Result], *arguments: object) -> Result | None:
        """The result of `work`; None if a signal came before or interrupts it."""
        self.cutting = True
        try:
            return None if self.received else work(*arguments)
        except KeyboardInterrupt:
            if not self.received:
                raise
            return None
        finally:
            self.cutting = False
