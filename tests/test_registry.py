"""What the ComfyUI registry sees of the pack."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("comfy_cli", reason="comfy-cli is installed by `python dev.py test`")


def test_registry_check_has_no_warning(root, tmp_path):
    comfy = Path(sys.executable).with_name("comfy.exe" if os.name == "nt" else "comfy")
    command = [comfy, "--skip-prompt", "--no-enable-telemetry", "node", "validate"]
    variables = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    result = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, check=False)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert "All validation checks passed" in output
    assert "warning" not in output.lower()


@pytest.mark.parametrize("name", ["requirements.txt", "training/requirements.txt", "pyproject.toml"])
def test_torch_reads_pickles_without_running_their_code(root, name):
    """Below 2.6 it could be made to, also with weights_only=True (CVE-2025-32434)."""
    (bound,) = re.findall(r"torch>=(\d+)\.(\d+)", (root / name).read_text())
    assert tuple(map(int, bound)) >= (2, 6)


def test_both_lists_of_requirements_agree(root):
    from comfy_cli.registry.config_parser import extract_node_configuration

    config = extract_node_configuration(str(root / "pyproject.toml"))
    assert config.project.dependencies == (root / "requirements.txt").read_text().split()
    assert config.tool_comfy.display_name == "ComfyUI-TiM"
