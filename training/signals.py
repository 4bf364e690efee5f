"""The signals that end a run after its step, with a state."""

from __future__ import annotations

import signal
import threading


class StopSignals:
    """Whether the first Ctrl-C or termination signal has come; the second of its kind ends the process at once."""

    def __init__(self):
        self.received = False

    def listen(self) -> None:
        """Take the signals from here on; only the main thread of a process may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self.receive)

    def receive(self, number: int, frame: object) -> None:
        self.received = True
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
