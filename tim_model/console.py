"""What commands print, on consoles of any encoding."""

from __future__ import annotations

import io
import sys


def escape_unprintable() -> None:
    """Print characters that the console's encoding lacks, such as Chinese in cp1252, as escapes like \\u732b."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
