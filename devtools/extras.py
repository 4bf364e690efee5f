"""Gets what some tests need and no requirements list can name: a Chromium, and Fashion-MNIST.

    python -m devtools.extras

`dev.py test` starts this. Present files are kept, no password is asked for, and where nothing works
the tests that need it are skipped. A failed attempt is repeated a day later at the earliest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from devtools.browser import find_browser
from devtools.fashion_mnist import OWN, find_fashion_mnist

DEBIAN_PACKAGE = "dataset-fashion-mnist"
FAILED = Path(sys.prefix, "extras-failed")
DAY = 24 * 60 * 60  # seconds
TIMEOUT = 15 * 60  # seconds for one download


def call(command: Sequence[str | Path], **options) -> None:
    """Run a command without a terminal. Raises OSError or subprocess.SubprocessError."""
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    subprocess.run(list(map(str, command)), check=True, timeout=TIMEOUT, env=variables, **streams, **options)


def may_install() -> bool:
    """Whether the system's package manager is there and needs no password."""
    return shutil.which("apt-get") is not None and os.geteuid() == 0


def apt_install(package: str) -> None:
    options = ["-q", "-o", "DPkg::Lock::Timeout=120"]
    call(["apt-get", "update", *options])
    call(["apt-get", "install", "-y", "--no-install-recommends", *options, package])


def playwright_install() -> None:
    """Playwright's own Chromium, with the system's libraries where those can be had."""
    libraries = ["--with-deps"] if may_install() else []
    call([sys.executable, "-m", "playwright", "install", *libraries, "chromium"])
    call([find_browser() or "chromium", "--version"])  # fails where libraries are missing


def unpack_debian_package() -> None:
    """The data out of the Debian package, without installing it."""
    with tempfile.TemporaryDirectory() as folder:
        call(["apt-get", "download", DEBIAN_PACKAGE], cwd=folder)
        (package,) = Path(folder).glob("*.deb")
        call(["dpkg-deb", "-x", package, folder])
        keep(Path(folder, "usr", "share", "datasets", "fashion-mnist"))


def download_with_torchvision() -> None:
    with tempfile.TemporaryDirectory() as folder:
        code = "import sys; from torchvision.datasets import FashionMNIST; FashionMNIST(sys.argv[1], download=True)"
        call([sys.executable, "-c", code, folder])
        keep(Path(folder, "FashionMNIST", "raw"))


def keep(folder: Path) -> None:
    """Move the data where it is found; it appears whole or not at all."""
    OWN.parent.mkdir(parents=True, exist_ok=True)
    partial = OWN.with_name("partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial)
    partial.rename(OWN)


Ways = dict[str, Callable[[], None]]  # what is done, to be shown -> what does it


def browser_ways() -> Ways:
    ways: Ways = {"python -m playwright install chromium": playwright_install}
    return {"apt-get install chromium": lambda: apt_install("chromium"), **ways} if may_install() else ways


def data_ways() -> Ways:
    ways: Ways = {"torchvision's download": download_with_torchvision}
    if shutil.which("apt-get"):
        ways = {f"apt-get download {DEBIAN_PACKAGE}": unpack_debian_package, **ways}
    if may_install():
        ways = {f"apt-get install {DEBIAN_PACKAGE}": lambda: apt_install(DEBIAN_PACKAGE), **ways}
    return ways


def get(name: str, ways: Ways, find: Callable[[], object]) -> bool:
    """Try each way to get something that is not there; one line says what is installed, one why it could not be."""
    if find() is not None:
        return True
    reasons = []
    for title, way in ways.items():
        print(f"[setup] {name}: {title}", flush=True)
        try:
            way()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            reasons.append(f"{title}: {why(error)}")
            continue
        if find() is not None:
            return True
        reasons.append(f"{title}: done, but nothing is there")
    print(f"[setup] no {name}, tests that need it are skipped ({'; '.join(reasons)})", flush=True)
    return False


def why(error: Exception) -> str:
    """The last line of a failed command that reports an error, or its last one, or the error itself."""
    said = error.stderr or error.stdout if isinstance(error, subprocess.CalledProcessError) else ""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "Error"))]
    return (errors or lines or [str(error)])[-1]


def main() -> None:
    if FAILED.exists() and time.time() - FAILED.stat().st_mtime < DAY:
        return
    there = [get("Chromium", browser_ways(), find_browser), get("Fashion-MNIST", data_ways(), find_fashion_mnist)]
    FAILED.unlink(missing_ok=True)
    if not all(there):
        FAILED.touch()


if __name__ == "__main__":
    main()
