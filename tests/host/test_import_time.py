"""The pack must not slow the host's start down, nor fail it for lack of an optional package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Runs where the host's own imports are done already, as when it gets to its custom nodes. Measures the time of this
# process, which does not grow where the machine is busy.
SCRIPT = """
import importlib.util, json, sys, time
host, pack = sys.argv[1:]
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, host)
import comfy.options
comfy.options.enable_args_parsing()
import folder_paths, nodes, comfy_extras.nodes_custom_sampler

before, kinds = set(sys.modules), set(folder_paths.folder_names_and_paths)
start = time.process_time()
spec = importlib.util.spec_from_file_location("pack", pack + "/__init__.py", submodule_search_locations=[pack])
module = importlib.util.module_from_spec(spec)
sys.modules["pack"] = module
spec.loader.exec_module(module)
seconds = time.process_time() - start
new_kinds = sorted(set(folder_paths.folder_names_and_paths) - kinds)
modules = sorted(set(sys.modules) - before)
print(json.dumps({"seconds": seconds, "modules": modules, "names": dir(module), "new_kinds": new_kinds}))
"""


@pytest.fixture(scope="module")
def imported(host_dir, root) -> dict[str, Any]:
    return import_pack(host_dir, root)


def import_pack(host_dir: Path, pack: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", SCRIPT, str(host_dir), str(pack)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_pack_is_imported(imported):
    assert "comfy_entrypoint" in imported["names"]
    assert "pack.tim_model.network.tim" in imported["modules"]


def test_import_takes_less_than_a_third_of_a_second(imported):
    assert imported["seconds"] < 0.3


def test_no_other_package_is_imported(imported):
    packages = {name.split(".")[0] for name in imported["modules"]} - sys.stdlib_module_names - {"pack"}
    assert packages == set()


def test_no_kind_of_model_is_added_to_the_host(imported):
    assert imported["new_kinds"] == []


@pytest.mark.parametrize("left", [(), ("vae",)], ids=["no models folder", "one kind left"])
def test_pack_is_imported_without_the_bundled_models(host_dir, root, tmp_path, left):
    """Users delete them to save space."""
    for name in ("nodes", "tim_model"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "__init__.py", tmp_path)
    for kind in left:
        (tmp_path / "models" / kind).mkdir(parents=True)
    assert "comfy_entrypoint" in import_pack(host_dir, tmp_path)["names"]
