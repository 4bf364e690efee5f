"""How the commands of this package end: errors and interruptions are one line on stderr, and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable

INTERRUPTED = 130  # exit status, as of a command stopped by Ctrl-C


def status_of(work: Callable[[], None], stopped: str = "stopped") -> int:
    """Do the work of a command; returns its exit status.

    Args:
        stopped: what an interruption prints.
    """
    try:
        work()
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:  # of torch: no device, no memory
        print(f"error: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    return 0
