"""The frozen network of SplitMeanFlow's second stage."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.training.tiny import last_state, train, write_classes, write_recipe
from tim_model.checkpoint import read_checkpoint
from training.components.teacher import build_teacher, read_teacher
from training.config.load import ConfigError, load_config

STUDENT = (
    "run.steps=2",
    "objective.name=split_meanflow",
    "objective.diffusion_ratio=1",
    "objective.consistency_ratio=0",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with data and the weights of a teacher."""
    folder = tmp_path_factory.mktemp("teacher")
    data = write_classes(folder / "data")
    assert train(write_recipe(folder, data, "teacher"), "run.steps=2", "objective.name=flow_matching") == 0
    return folder


def learn(runs, tmp_path, *options: str) -> torch.Tensor:
    """The weights of a student, all in one."""
    tmp_path.mkdir(exist_ok=True)
    assert train(write_recipe(tmp_path, runs / "data"), *STUDENT, *options) == 0
    return torch.cat([value.flatten() for value in last_state(tmp_path / "run")["net"].values()])


def test_a_student_learns_from_it(runs, tmp_path):
    """Teacher and guidance change the weights; the teacher is frozen and on its own."""
    teacher = f"objective.teacher={runs / 'teacher' / 'model-ema.safetensors'}"
    before = (runs / "teacher" / "model-ema.safetensors").read_bytes()
    taught, guided, alone = (
        learn(runs, tmp_path / str(i), *options)
        for i, options in enumerate([(teacher,), (teacher, "objective.teacher_cfg=3"), ()])
    )
    assert not torch.equal(taught, alone) and not torch.equal(taught, guided)
    assert (runs / "teacher" / "model-ema.safetensors").read_bytes() == before


def test_another_teacher_is_another_run(runs, tmp_path, capsys):
    teacher = f"objective.teacher={runs / 'teacher' / 'model-ema.safetensors'}"
    recipe = write_recipe(tmp_path, runs / "data")
    assert train(recipe, *STUDENT) == 0
    assert train(recipe, *STUDENT, "run.steps=3", teacher) != 0
    assert "objective.teacher=none, here" in capsys.readouterr().err
    assert train(recipe, *STUDENT, "run.steps=3") == 0


def test_it_is_frozen_and_in_float32(runs, tmp_path):
    path = runs / "teacher" / "model-ema.safetensors"
    config = load_config(write_recipe(tmp_path, runs / "data"), [*STUDENT, f"objective.teacher={path}"])
    net = build_teacher(read_teacher(config, read_checkpoint(path).params), torch.device("cpu"))
    assert not net.training
    assert all(not p.requires_grad and p.dtype == torch.float32 for p in net.parameters())


def test_another_kind_of_network_is_refused(runs, tmp_path):
    path = runs / "teacher" / "model-ema.safetensors"
    config = load_config(write_recipe(tmp_path, runs / "data"), [*STUDENT, f"objective.teacher={path}"])
    params = read_checkpoint(path).params
    with pytest.raises(
        ConfigError, match="objective.teacher: has num_classes 2, expected 3 as the trained network has"
    ):
        read_teacher(config, replace(params, num_classes=3))
