"""What `pip install` of this checkout gives: two packages with the recipes, and the commands tim and tim-train."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement

PACKAGES = ("tim_model", "training")
BUILT_FROM = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", *PACKAGES)
BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
if int(setuptools.__version__.partition(".")[0]) < 77:
    pytest.skip("setuptools>=77 is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory) -> Path:
    """Built from a copy, as a build writes beside its sources."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        if (root / name).is_dir():
            shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(root / name, source / name)
    subprocess.run([sys.executable, "-c", BUILD, target], cwd=source, check=True, capture_output=True)
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with the packages, and the commands in bin/."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", folder, wheel], check=True, capture_output=True)
    return folder


def test_wheel_holds_every_file_of_both_packages(root, wheel):
    with zipfile.ZipFile(wheel) as packed:
        held = {name for name in packed.namelist() if ".dist-info/" not in name}
    files = {path for name in PACKAGES for path in (root / name).rglob("*") if path.is_file()}
    assert held == {path.relative_to(root).as_posix() for path in files if "__pycache__" not in path.parts}
    assert "training/recipes/demo/tim.yaml" in held and "tim_model/network/tim.py" in held


LISTS = {"": "requirements.txt", "standalone": "tim_model/requirements.txt", "training": "training/requirements.txt"}


@pytest.mark.parametrize("extra", LISTS)
def test_wheel_requires_what_requirements_name(root, wheel, extra):
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith(".dist-info/METADATA"))
        lines = packed.read(name).decode().splitlines()
    required = [Requirement(line.partition(": ")[2]) for line in lines if line.startswith("Requires-Dist: ")]
    named = {
        f"{requirement.name}{requirement.specifier}"
        for requirement in required
        if (requirement.marker.evaluate({"extra": extra}) if requirement.marker else not extra)
    }
    listed = (root / LISTS[extra]).read_text().splitlines()
    assert named == {line for line in listed if not line.startswith("#")}


@pytest.mark.skipif(os.name == "nt", reason="pip --target makes no commands that find their packages on Windows")
def test_commands_run(root, installed, tmp_path):
    """Away from the checkout."""
    model = root / "models" / "diffusion_models" / "tim-fashion-mnist-c2i.safetensors"
    variables = {**os.environ, "PYTHONPATH": str(installed)}

    def run(*command: object) -> str:
        words = [installed / "bin" / command[0], *map(str, command[1:])]
        return subprocess.run(words, cwd=tmp_path, env=variables, check=True, capture_output=True, text=True).stdout

    assert "depth 6" in run("tim", "inspect", model)
    assert "--dry-run" in run("tim-train", "--help")
