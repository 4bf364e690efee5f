"""What a training run changes in its process is put back after each test."""

from __future__ import annotations

import signal
import sys

import pytest


@pytest.fixture(autouse=True)
def process():
    """The handlers of signals, and what accelerate remembers of the first run."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    if accelerate := sys.modules.get("accelerate.state"):
        accelerate.AcceleratorState._reset_state(reset_partial_state=True)
