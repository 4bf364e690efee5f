"""`generate --tolerance`: as many network calls as each image needs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tim_model import load_checkpoint, make_times
from tim_model.__main__ import main
from tim_model.images import to_pictures
from tim_model.request import Request
from tim_model.sampling.adaptive import sample_adaptively
from tim_model.sampling.noise import draw_noise
from tim_model.sampling.progressive import Stage
from tim_model.sampling.solvers.by_name import Solver

MODEL = Path(__file__).resolve().parents[2] / "models" / "diffusion_models" / "tim-fashion-mnist-c2i.safetensors"
SANDAL, SEED = 5, 3


def generate(folder: Path, *options: str) -> int:
    what = ["--model", str(MODEL), "--class", str(SANDAL), "--seed", str(SEED), "--out", str(folder / "image.png")]
    return main(["generate", *what, "--device", "cpu", *options])


def test_the_image_is_that_of_the_library_and_its_calls_are_printed(tmp_path, capsys):
    assert generate(tmp_path, "--tolerance", "0.2", "--steps", "8", "--cfg", "2") == 0
    steps, y = [], torch.tensor([SANDAL])
    expected = sample_adaptively(
        load_checkpoint(MODEL), draw_noise((1, 3, 32, 32), SEED), make_times("uniform", 8), 0.2, y,
        callback=steps.append, cfg=2.0,
    )  # fmt: skip
    assert f"steps: 8: {len(steps)} network calls" in capsys.readouterr().out
    with Image.open(tmp_path / "image.png") as image:
        assert image.text["tim.tolerance"] == "0.2" and "tim.times" not in image.text
        np.testing.assert_allclose(np.asarray(image).astype(int), np.asarray(to_pictures(expected)[0]), atol=1)


def test_sixteen_calls_at_most_by_default(tmp_path, capsys):
    assert generate(tmp_path, "--tolerance", "1e-5", "--cfg", "1") == 0
    assert re.search("steps: 16: 16 network calls", capsys.readouterr().out)  # 4 and 12


@pytest.mark.parametrize(
    "options",
    [
        ["--stochasticity", "0.2"], ["--restart", "0.5"], ["--solver", "ab2"], ["--schedule", "shifted"],
        ["--times", "1 .5 0"], ["--strategy", "progressive"],
    ],
)  # fmt: skip
def test_options_that_exclude_each_other(tmp_path, capsys, options):
    assert generate(tmp_path, "--tolerance", "0.1", *options) == 1
    assert "--tolerance with" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "-1", "nan", "x"])
def test_a_bad_number_is_one_line(tmp_path, capsys, number):
    with pytest.raises(SystemExit):
        generate(tmp_path, "--tolerance", number)
    assert "--tolerance" in capsys.readouterr().err.splitlines()[-1]


def test_records_refuse_what_a_tolerance_does_not_have():
    stage = Stage(32, 32, tuple(make_times("uniform", 8)))
    with pytest.raises(ValueError, match="expected one stage and no solver"):
        Request(classes=("1",), stages=(stage,), tolerance=0.1, solver=Solver("ab2"))
    with pytest.raises(ValueError, match="above 0"):
        Request(classes=("1",), stages=(stage,), tolerance=0.0)
