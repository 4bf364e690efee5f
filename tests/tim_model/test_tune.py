"""`tune-schedule`, and the schedules that it writes in `generate`."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tim_model.__main__ import main
from tim_model.sampling.tuned import TunedSchedules, read_schedules, schedules_path, write_schedules

MODEL = Path(__file__).resolve().parents[2] / "models" / "diffusion_models" / "tim-fashion-mnist-c2i.safetensors"
TIMES = {2: [1.0, 0.65, 0.0], 3: [1.0, 0.8, 0.6, 0.0]}


@pytest.fixture
def model(tmp_path) -> Path:
    return Path(shutil.copy(MODEL, tmp_path / "model.safetensors"))


def generate(model: Path, *options: str) -> int:
    return main(["generate", "--model", str(model), "--class", "5", "--device", "cpu", *options])


def test_round_trip(tmp_path):
    path = schedules_path(tmp_path / "model.safetensors")
    assert path.name == "model.schedules.json"
    write_schedules(TunedSchedules(TIMES, 2.5), path)
    assert read_schedules(tmp_path / "model.safetensors") == TunedSchedules(TIMES, 2.5)


def test_generate_takes_its_times(model, tmp_path):
    write_schedules(TunedSchedules(TIMES), schedules_path(model))
    outs = [tmp_path / f"{name}.png" for name in ("tuned", "own")]
    assert generate(model, "--schedule", "tuned", "--steps", "3", "--out", str(outs[0])) == 0
    assert generate(model, "--times", "1 .8 .6 0", "--out", str(outs[1])) == 0
    images = [np.asarray(Image.open(out)) for out in outs]
    assert (images[0] == images[1]).all()
    assert Image.open(outs[0]).text["tim.times"] == "1, 0.8, 0.6, 0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "model.safetensors has no tuned schedules: expected model.schedules.json beside it"),
        ("{", "holds no tuned schedules"),
        ("[]", "holds no tuned schedules"),
        ('{"format": "tim-schedules-2", "cfg": 1, "times": {}}', "holds no tuned schedules"),
        ('{"format": "tim-schedules-1", "cfg": 1, "times": {"4": [1, 0]}}', "expected 5 times from 1 to 0"),
        ('{"format": "tim-schedules-1", "cfg": 1, "times": {"2": [1, 1, 0]}}', "strictly decreasing"),
        ('{"format": "tim-schedules-1", "cfg": 1, "times": {"2": [1, 0.5, 0]}}', "for 2 steps"),
    ],
)
def test_a_model_without_them_is_one_line(model, capsys, content, message):
    if content is not None:
        schedules_path(model).write_text(content)
    assert generate(model, "--schedule", "tuned", "--steps", "4") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error and "\n" not in error


def test_the_command_tunes_a_class_model(model, capsys):
    options = ["--steps", "1..2", "--batch", "1", "--cfg", "1", "--device", "cpu"]
    assert main(["tune-schedule", str(model), *options]) == 0
    schedules = read_schedules(model)
    assert set(schedules.times) == {1, 2} and schedules.cfg == 1
    assert all(r < t for times in schedules.times.values() for t, r in pairwise(times))
    assert "2 steps: 1, " in capsys.readouterr().out
    assert json.loads(schedules_path(model).read_text())["format"] == "tim-schedules-1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "21", "--batch", "1"], "steps=21: expected 1 to 20"),
        (["--out", "nowhere/x.json"], "does not exist"),
    ],
)
def test_what_cannot_be_tuned_is_one_line(model, capsys, options, message):
    assert main(["tune-schedule", str(model), "--device", "cpu", "--cfg", "1", *options]) == 1
    assert message in capsys.readouterr().err
    assert not schedules_path(model).exists()


@pytest.mark.parametrize("steps", ["0", "3..2", "a", "1..", "2,2"])
def test_step_ranges_that_are_none(model, steps):
    with pytest.raises(SystemExit):
        main(["tune-schedule", str(model), "--steps", steps])
