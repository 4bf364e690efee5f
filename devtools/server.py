"""Starts and stops a ComfyUI as a process of its own, in a folder of ours, with this pack linked into it."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from devtools.client import Client

ROOT = Path(__file__).resolve().parent.parent
PACK = "ComfyUI-TiM"
MODEL_FOLDERS = ["checkpoints", "diffusion_models", "loras", "text_encoders", "vae"]
# A group of its own gets no Ctrl-C and can be killed as one. 0x200 is CREATE_NEW_PROCESS_GROUP.
NEW_GROUP = {"creationflags": 0x200} if os.name == "nt" else {"start_new_session": True}


class HostFailed(RuntimeError):
    """The host's process ended, or did not get ready in time. The message ends with its last lines of log."""


def link_pack(checkout: Path, custom_nodes: Path) -> None:
    """Make `custom_nodes`/ComfyUI-TiM show `checkout`: a link, else (Windows) a junction, else a copy."""
    link = custom_nodes / PACK
    if link.exists() and link.resolve() == checkout.resolve():
        return
    _remove(link)
    try:
        link.symlink_to(checkout, target_is_directory=True)
    except OSError:
        command = ["cmd", "/c", "mklink", "/J", str(link), str(checkout)]
        if os.name != "nt" or subprocess.run(command, check=False, capture_output=True).returncode != 0:
            shutil.copytree(checkout, link, ignore=shutil.ignore_patterns(".*", "__pycache__"))


def _remove(link: Path) -> None:
    if link.is_symlink():
        link.unlink()
    elif os.path.lexists(link):
        try:
            link.rmdir()  # takes a junction away, never what it points at
        except OSError:
            shutil.rmtree(link)


def prepare_base(base: Path, checkout: Path = ROOT) -> Path:
    """Make the folders a host expects in its base directory, with the pack among the custom nodes."""
    for name in ["input", "output", "custom_nodes", *(f"models/{folder}" for folder in MODEL_FOLDERS)]:
        (base / name).mkdir(parents=True, exist_ok=True)
    link_pack(checkout, base / "custom_nodes")
    return base


def free_port(wanted: int = 0) -> int:
    """`wanted` if nothing listens there, else any free port of the loopback."""
    with socket.socket() as probe:
        if os.name != "nt":  # as the host does: a port whose last user is just gone counts as free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stop_on_terminate() -> None:
    """Have SIGTERM end this process like Ctrl-C, so that the hosts it started are stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


class Host(Client):
    """The ComfyUI in `host_dir`, working in `base` (see prepare_base); `with` starts and stops it."""

    def __init__(self, host_dir: Path, base: Path, *, cpu: bool = True, port: int = 0, boot_timeout: float = 180.0):
        self.host_dir = host_dir.resolve()
        self.base = base.resolve()
        self.cpu = cpu
        self.boot_timeout = boot_timeout
        self.log_file = self.base / "host.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.boot_log = ""  # what the host had printed when it first answered
        self.port = free_port(port)
        super().__init__(f"127.0.0.1:{self.port}")

    def __enter__(self):
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """Everything the host has printed so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def start(self) -> Host:
        """Boot the host and wait until it answers. Raises HostFailed."""
        with open(self.log_file, "wb") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
            self.process = subprocess.Popen(
                self._command(), cwd=self.base, env=self._variables(), **streams, **NEW_GROUP
            )
        atexit.register(self.stop)
        try:
            self._wait_until_ready()
            self.boot_log = self.log
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Kill the host and whatever it started. Harmless when it is not running."""
        atexit.unregister(self.stop)
        if self.process is None:
            return
        if os.name == "nt":
            self.process.kill()
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            return super().request(method, path, **options)
        except requests.ConnectionError:
            self._check_alive()
            raise

    def _command(self) -> list[str]:
        options = ["--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(self.base)]
        options += ["--database-url", "sqlite:///:memory:", "--preview-method", "latent2rgb"]
        return [sys.executable, str(self.host_dir / "main.py"), *options, *(["--cpu"] if self.cpu else [])]

    def _variables(self) -> dict[str, str]:
        # threads of small models that spin while they wait were seen to be sixty times slower on a busy machine
        variables = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
        if ROOT not in self.host_dir.parents:
            variables["PYTHONDONTWRITEBYTECODE"] = "1"  # someone else's checkout stays as it is
        return variables

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.boot_timeout
        while time.monotonic() < deadline:
            try:
                self.get("/system_stats")
                return
            except requests.RequestException:
                self._check_alive()
                time.sleep(0.1)
        raise HostFailed(f"no answer from the host after {self.boot_timeout:g} s{self._last_lines()}")

    def _check_alive(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            raise HostFailed(f"the host ended with code {self.process.poll()}{self._last_lines()}")

    def _last_lines(self, count: int = 20) -> str:
        return "; its log ends:\n" + "\n".join(self.log.splitlines()[-count:])


def development_host(port: int = 0) -> Host:
    """The host that dev.py chose, working in .host of this checkout, on an accelerator where there is one."""
    if "TIM_HOST_DIR" not in os.environ:
        sys.exit("TIM_HOST_DIR is not set: start this with `python dev.py run` or `python dev.py comfy`")
    from torch import accelerator

    base = prepare_base(ROOT / ".host")
    return Host(Path(os.environ["TIM_HOST_DIR"]), base, cpu=not accelerator.is_available(), port=port)


@contextlib.contextmanager
def temporary_host() -> Iterator[Host]:
    """The host in TIM_HOST_DIR, working in a folder that goes with it."""
    if "TIM_HOST_DIR" not in os.environ:
        sys.exit("TIM_HOST_DIR is not set: set it to the folder of a ComfyUI")
    stop_on_terminate()
    with (
        tempfile.TemporaryDirectory() as folder,
        Host(Path(os.environ["TIM_HOST_DIR"]), prepare_base(Path(folder))) as host,
    ):
        yield host
