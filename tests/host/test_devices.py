"""The whole graph on a device that this machine need not have, with weights that the host leaves on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("device_script.py")


@pytest.fixture(scope="module")
def results(host_dir, root, stack) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), str(host_dir), str(root), str(stack)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


# mean error of the latent against float32 on the CPU, whose values are about 1, and dtype of the weights
CASES = {"bf16": (0.03, "bfloat16"), "half of it fits, fp8": (0.12, "float8_e4m3fn"), "--novram": (1e-5, "float32")}


@pytest.mark.parametrize("case", CASES)
def test_pictures_are_those_of_the_cpu(results, case):
    """Within the rounding of the dtype; text, guidance, changed weights, sampling and both ways through the VAE."""
    found, (tolerance, dtype) = results["cases"][case], CASES[case]
    assert found["device"] == "mps" and found["dtype"] == f"torch.{dtype}" and found["finite"]
    assert found["latent error"] <= tolerance
    assert found["error"] <= 0.1 * results["size"]


def test_weights_lie_where_memory_lets_them(results):
    places = {case: set(found["places"]) for case, found in results["cases"].items()}
    assert places["bf16"] == {"mps"} and "cpu" in places["--novram"] and "cpu" in places["half of it fits, fp8"]
