"""What the released code computed (tests/golden), and the tolerance that we are held to."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).resolve().parent.parent / "golden"
SAMPLING = json.loads((FOLDER / "cases.json").read_text())["sampling"]


@cache
def golden(name: str) -> dict[str, Tensor]:
    return load_file(FOLDER / f"{name}.safetensors")


def golden_case(name: str, case: int | str) -> dict[str, Tensor]:
    """The tensors of one case, by their names after "<case>."."""
    start = f"{case}."
    return {key.removeprefix(start): value for key, value in golden(name).items() if key.startswith(start)}


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest absolute error over the largest absolute value (over 1 where all of them are 0)."""
    assert actual.shape == expected.shape
    error, size = float((actual - expected).detach().abs().max()), float(expected.abs().max())
    return error / (size or 1)


def assert_reproduces(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert actual.dtype == expected.dtype
    assert relative_error(actual, expected) <= tolerance
