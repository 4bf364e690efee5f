"""Runs the commands of this package: an error or interruption is one line on stderr and an exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from tim_model.console import escape_unprintable

INTERRUPTED = 130  # exit status, as of a command stopped by Ctrl-C


def reason(error: Exception) -> str:
    """An error's text on one line, or its type if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__


def run_command(
    parser: argparse.ArgumentParser,
    function: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None,
    stopped: str = "stopped",
    describe: Callable[[Exception], str] = reason,
) -> int:
    """Parse the arguments of a command and run it; returns its exit status.

    Args:
        function: the command; returns the exit status, None for 0.
        argv: arguments; those of the process if None.
        stopped: printed after an interruption.
        describe: the text of an error, on one line.
    """
    escape_unprintable()
    arguments = parser.parse_intermixed_args(argv)
    return exit_status(lambda: function(arguments), stopped, describe)


def exit_status(
    function: Callable[[], int | None], stopped: str = "stopped", describe: Callable[[Exception], str] = reason
) -> int:
    """Run a command whose arguments are parsed; see `run_command`."""
    try:
        return function() or 0
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:  # of torch: no device, no memory
        print(f"error: {describe(error)}", file=sys.stderr)
        return 1
