"""Finds the folder of Fashion-MNIST."""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGED = Path("/usr/share/datasets/fashion-mnist")  # of the Debian package dataset-fashion-mnist
OWN = Path(sys.prefix, "share", "datasets", "fashion-mnist")  # where devtools.extras puts it without that package


def find_fashion_mnist() -> Path | None:
    """The folder with its four files, if there is one."""
    return next(filter(Path.is_dir, (PACKAGED, OWN)), None)
