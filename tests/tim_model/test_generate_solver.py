"""`generate --solver`: velocities of a model, followed by a solver."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tim_model import TiMPipeline, load_checkpoint, make_times
from tim_model.__main__ import main
from tim_model.images import to_pictures
from tim_model.request import Request
from tim_model.sampling.noise import draw_noise, image_noise_stream
from tim_model.sampling.progressive import Stage
from tim_model.sampling.sampler import Sampling
from tim_model.sampling.solvers.by_name import SOLVERS, Solver
from tim_model.sampling.solvers.epd import fingerprint, midpoint_table, write_table
from tim_model.sampling.solvers.velocity import velocity_of

MODEL = Path(__file__).resolve().parents[2] / "models" / "diffusion_models" / "tim-fashion-mnist-c2i.safetensors"
STEPS, SEED, SANDAL = 9, 3, 5
TIMES = make_times("uniform", STEPS)


@pytest.fixture(scope="module")
def net():
    return load_checkpoint(MODEL)


def generate(folder: Path, *options: str) -> int:
    what = ["--model", str(MODEL), "--class", str(SANDAL), "--seed", str(SEED), "--out", str(folder / "image.png")]
    return main(["generate", *what, "--device", "cpu", *options])


@pytest.mark.parametrize("name", SOLVERS)
@torch.no_grad()
def test_images_are_those_of_the_solver(net, tmp_path, name):
    assert generate(tmp_path, "--solver", name, "--steps", str(STEPS), "--cfg", "2") == 0
    options = {"noise_fn": image_noise_stream(SEED)} if name == "skipped_step" else {}
    options |= {"table": midpoint_table(TIMES)} if name == "epd" else {}
    velocity = velocity_of(net, torch.tensor([SANDAL]), cfg=2.0, guidance_interval=(0.0, 1.0))
    expected = SOLVERS[name](velocity, draw_noise((1, 3, 32, 32), SEED), TIMES, **options)
    with Image.open(tmp_path / "image.png") as image:
        assert image.text["tim.solver"] == name
        np.testing.assert_allclose(np.asarray(image).astype(int), np.asarray(to_pictures(expected)[0]), atol=1)


def write(folder: Path, net, **changes) -> str:
    path = folder / "table.safetensors"
    write_table(replace(midpoint_table(TIMES), model=fingerprint(net.named_parameters()), **changes), path)
    return str(path)


def test_a_table_is_used_and_named(net, tmp_path):
    options = ["--solver", "epd", "--steps", str(STEPS), "--cfg", "2", "--guidance", "-inf", "inf"]
    images = []
    for direction in (1.0, 0.9):
        table = write(tmp_path, net, cfg=2.0, direction=torch.full((STEPS, 1), direction))
        assert generate(tmp_path, *options, "--table", table) == 0
        with Image.open(tmp_path / "image.png") as image:
            assert image.text["tim.table"] == "table.safetensors"
            images.append(np.asarray(image).astype(int))
    assert generate(tmp_path, *options) == 0
    with Image.open(tmp_path / "image.png") as image:
        np.testing.assert_allclose(np.asarray(image).astype(int), images[0], atol=1)  # a table of the midpoint rule
    assert abs(images[1] - images[0]).max() > 5


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, ["--steps", "4"], "for the times"),
        ({}, ["--cfg", "2"], "for cfg 1, not for 2"),
        ({"cfg": 2.0}, ["--cfg", "2"], "guidance in every call"),
        ({"model": torch.ones(16)}, [], "another model"),
    ],
)
def test_a_table_for_something_else_is_one_line(net, tmp_path, capsys, changes, options, message):
    table = write(tmp_path, net)
    if changes:
        write_table(replace(midpoint_table(TIMES), **{"model": fingerprint(net.named_parameters()), **changes}), table)
    default = ["--steps", str(STEPS), "--cfg", "1"]
    assert generate(tmp_path, "--solver", "epd", "--table", table, *default, *options) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--table", "a.safetensors"], "--table without --solver epd"),
        (["--solver", "ab2", "--table", "a.safetensors"], "--table without --solver epd"),
        (["--solver", "ab2", "--stochasticity", "0.2"], "--stochasticity"),
        (["--solver", "ab2", "--strategy", "progressive"], "--strategy progressive"),
    ],
)
def test_options_that_exclude_each_other(tmp_path, capsys, options, message):
    assert generate(tmp_path, *options) == 1
    assert message in capsys.readouterr().err


def test_records_refuse_what_a_solver_does_not_have():
    with pytest.raises(ValueError, match="expected one of ab2"):
        Solver("rk4")
    with pytest.raises(ValueError, match="take solver epd"):
        Solver("ab2", midpoint_table(TIMES))
    stage = Stage(32, 32, tuple(TIMES))
    for changes in ({"stages": (stage, stage)}, {"stages": (stage,), "sampling": Sampling(stochasticity=0.2)}):
        with pytest.raises(ValueError, match="expected one stage"):
            Request(classes=("5",), solver=Solver("ab2"), **changes)


def test_the_pipeline_takes_one(net):
    """Two images of a batch, as each alone with its own noise."""
    pipeline = TiMPipeline.from_files(MODEL, device="cpu")
    images = pipeline(classes=["5", "7"], steps=3, seed=SEED, cfg=1.0, solver=Solver("ab2"))
    velocity = velocity_of(net, torch.tensor([5, 7]))
    with torch.no_grad():
        expected = SOLVERS["ab2"](velocity, draw_noise((2, 3, 32, 32), SEED), make_times("uniform", 3))
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=1e-5)
