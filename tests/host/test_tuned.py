"""Schedules that were tuned for a model, from the file beside it."""

from __future__ import annotations

import shutil

import pytest
import torch

from tests.host.graphs import MODEL_FILE, class_model, custom_sampling, node, run_latent, schedule, tim_sampler
from tests.host.test_errors import failure
from tim_model.sampling.tuned import TunedSchedules, schedules_path, write_schedules

NAME = "tuned.safetensors"
TIMES = "1, 0.8, 0.6, 0"


@pytest.fixture(scope="module", autouse=True)
def tuned_model(host_base):
    folder = host_base / "models" / "diffusion_models"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(MODEL_FILE, folder / NAME)
    times = [float(word) for word in TIMES.split(",")]
    write_schedules(TunedSchedules({3: times}), schedules_path(folder / NAME))


def tuned(**changes):
    return schedule(schedule="tuned", **{"steps": 3, "model": ["model", 0], **changes})


def test_both_nodes_take_its_times(host):
    model, euler = class_model(name=NAME), node("KSamplerSelect", sampler_name="euler")
    custom = schedule(schedule="custom", times=TIMES)
    expected = run_latent(host, {**model, "sample": tim_sampler(sigmas=["sigmas", 0]), "sigmas": custom})
    assert torch.equal(run_latent(host, {**model, "sample": tim_sampler(schedule="tuned", steps=3)}), expected)
    by_sigmas = [run_latent(host, {**model, **custom_sampling(euler, sigmas)}) for sigmas in (tuned(), custom)]
    assert torch.equal(*by_sigmas)


@pytest.mark.parametrize(
    ("name", "sigmas", "message"),
    [
        (NAME, tuned(steps=4), "this model has it for 3 steps"),
        (NAME, tuned(start=0.6), "runs from 1 to 0, not from 0.6"),
        (NAME, schedule(schedule="tuned"), "connect the model"),
        (MODEL_FILE.name, tuned(), "has no tuned schedules"),
    ],
)
def test_what_was_not_tuned_is_one_line(host, name, sigmas, message):
    sampling = custom_sampling(node("TiMTransitionSampler", stochasticity=0.0, velocity=False), sigmas)
    found = failure(host, {**class_model(name=name), **sampling}).exception_message.strip()
    assert message in found and "\n" not in found


def test_part_of_the_noise_has_no_tuned_times(host):
    graph = {**class_model(name=NAME), "sample": tim_sampler(schedule="tuned", steps=3, denoise=0.6)}
    assert "not from 0.6 to 0" in failure(host, graph).exception_message
