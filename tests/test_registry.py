"""What the ComfyUI registry sees of the pack: its metadata, the archive, and what its scan would flag in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("comfy_cli", reason="comfy-cli is installed by `python dev.py test`")

SHIPPED = {"LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "__init__.py", "icon.png", "pyproject.toml"}
SHIPPED |= {"requirements.txt", "models", "nodes", "tim_model", "training", "web", "workflows"}
# The registry matches texts, comments included, and one match keeps a version back. These are the texts that it has
# named for published packs (rule: what matched).
FLAGGED = {
    "python_command_injection_risk": r"\bsubprocess\b|os\.system\b|os\.popen\b",
    "python_environment_manipulation": r"os\.environ|os\.getenv",
    "python_dynamic_execution": r"\beval\s*\(|\bexec\s*\(|__import__",
    "python_bytecode_manipulation": r"importlib\.import_module|\bmarshal\b",
    "python_network_operations": r"\burllib|\burlopen|http\.client|\brequests\.\w|\bsocket\.\w|\baiohttp\b"
    r"|\.(connect|bind|listen|send|sendall|sendto|recv)\s*\(",
    "python_sensitive_file_access": r"/etc/passwd|\.ssh/",
    "contains_blacklisted_url": r"raw\.githubusercontent\.com",
}
SCANNED = (".py", ".js", ".json", ".yaml", ".toml")


def test_registry_check_has_no_warning(root, tmp_path):
    comfy = Path(sys.executable).with_name("comfy.exe" if os.name == "nt" else "comfy")
    command = [comfy, "--skip-prompt", "--no-enable-telemetry", "node", "validate"]
    variables = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    result = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, check=False)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert "All validation checks passed" in output
    assert "warning" not in output.lower()


@pytest.fixture(scope="module")
def archive(root, tmp_path_factory) -> dict[str, bytes]:
    """The files that `comfy node pack` puts into the archive: those that git tracks, without .comfyignore's."""
    from comfy_cli.file_utils import zip_files

    if not (root / ".git").exists():
        pytest.skip("this copy is no checkout of git")
    path = tmp_path_factory.mktemp("registry") / "node.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        zip_files(path)
    with zipfile.ZipFile(path) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_archive_holds_what_users_need_and_no_more(archive):
    """Tests, benchmarks and development tools stay out; training is in it."""
    assert {name.partition("/")[0] for name in archive} == SHIPPED
    assert {"training/train.py", "training/requirements.txt", "training/recipes/fashion_cpu.yaml"} <= set(archive)


@pytest.mark.parametrize("rule", FLAGGED)
def test_scan_flags_nothing(archive, rule):
    texts = {name: data.decode() for name, data in archive.items() if name.endswith(SCANNED)}
    found = {name: [m[0] for m in re.finditer(FLAGGED[rule], text)] for name, text in texts.items()}
    assert {name: matches for name, matches in found.items() if matches} == {}


BAD_LINES = {
    "python_command_injection_risk": ["import subprocess", "os.system('ls')"],
    "python_environment_manipulation": ["os.environ['HOME']", "os.getenv('HOME')"],
    "python_dynamic_execution": ["eval('1')", "model.eval()", "exec ('')", "__import__('os')"],
    "python_bytecode_manipulation": ["importlib.import_module(name)"],
    "python_network_operations": ["urllib.request.urlopen(url)", "requests.get(url)", "peer.connect ()"],
    "python_sensitive_file_access": ["open('/etc/passwd')"],
    "contains_blacklisted_url": ["https://raw.githubusercontent.com/x"],
}


@pytest.mark.parametrize("rule", FLAGGED)
def test_rules_find_what_they_are_for(rule):
    assert [line for line in BAD_LINES[rule] if not re.search(FLAGGED[rule], line)] == []
    for line in ("retrieval(x)", "evaluate(x)", "state.requests", "sender(x)", "import_names(x)"):
        assert not re.search(FLAGGED[rule], line)


def test_icon_fits_the_registry(root):
    with Image.open(root / "icon.png") as icon:
        assert icon.format == "PNG" and icon.width == icon.height <= 400


@pytest.mark.parametrize("name", ["requirements.txt", "training/requirements.txt"])
def test_torch_reads_pickles_without_running_their_code(root, name):
    """Below 2.6 it could be made to, also with weights_only=True (CVE-2025-32434)."""
    (bound,) = re.findall(r"torch>=(\d+)\.(\d+)", (root / name).read_text())
    assert tuple(map(int, bound)) >= (2, 6)


def test_metadata(root):
    """Dependencies stand in requirements.txt alone."""
    from comfy_cli.registry.config_parser import extract_node_configuration

    config = extract_node_configuration(str(root / "pyproject.toml"))
    assert config.project.dependencies == []
    assert config.tool_comfy.display_name == "ComfyUI-TiM"
    assert config.project.license.text == "Apache-2.0"
    assert config.project.supported_os == ["OS Independent"]
    assert config.project.supported_comfyui_version == ">=0.3.75"
