"""python -m training.evaluate with a small random stack: what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devtools.random_stack import MODEL_FILE, SMALL_TIM, TEXT_ENCODER_FILE, VAE_FILE, write_stack, write_tim
from tim_model.network.params import TiMParams
from training.emoji.captions import TASKS as EMOJI_TASKS
from training.emoji.classifier import ThingClassifier
from training.emoji.classifier import save_classifier as save_emoji_classifier
from training.emoji.prompts import make_prompts as make_emoji_prompts
from training.evaluate import main, sheet_places
from training.evaluation.classifier import ItemClassifier, save_classifier
from training.evaluation.drawing import PromptSampler
from training.scenes.captions import TASKS
from training.scenes.folder import make_prompts, write_jsonl, write_prompts
from training.scenes.prompts import Prompt
from training.scenes.scene import draw_scene, render

from .emoji.stand_ins import write_stand_ins
from .fashion import NearestItem, read_items, write_items

KEYS = {
    "model", "count", "seed", "velocity", "cfg", "steps", "overall", "ci", "tasks", "unseen", "frechet",
    "classifier_accuracy", "color_accuracy", "emptiness_accuracy", "real", "reconstructed",
}  # fmt: skip


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> dict[str, Path]:
    """The files of the command, by the names of its options."""
    folder = tmp_path_factory.mktemp("stack")
    write_stack(folder)
    torch.manual_seed(0)
    save_classifier(ItemClassifier(width=4), folder / "judge.safetensors")
    return {
        "model": folder / "diffusion_models" / MODEL_FILE,
        "text-encoder": folder / "text_encoders" / TEXT_ENCODER_FILE,
        "vae": folder / "vae" / VAE_FILE,
        "classifier": folder / "judge.safetensors",
        "data": write_items(folder),
    }


def run(stack: dict[str, Path], out: Path, *options: str, **changed: object) -> int:
    files = [f"--{name}={value}" for name, value in {**stack, **changed}.items()]
    return main([*files, "--device=cpu", "--steps=2,1", "--per-task=1", f"--out={out}", *options])


def test_writes_scores_of_every_scale_a_table_and_pictures(stack, tmp_path, capsys):
    out = tmp_path / "made" / "here"
    assert run(stack, out, "--cfg=1,2.5") == 0
    assert "recognizer on real scenes: " in capsys.readouterr().out
    names = {"scores-cfg1.json", "scores-cfg2.5.json", "scores.json", "scores.md", "scores.png", "samples.png"}
    assert {path.name for path in out.iterdir()} == names
    assert (out / "scores.json").read_text() == (out / "scores-cfg2.5.json").read_text()
    found = json.loads((out / "scores-cfg1.json").read_text())
    assert found.keys() == KEYS
    header = (found["model"], found["count"], found["cfg"], found["steps"], found["seed"], found["velocity"])
    assert header == (MODEL_FILE, 8, 1, [1, 2], 0, False)
    assert found["tasks"].keys() == found["real"]["tasks"].keys() == TASKS.keys()
    for values in (*found["tasks"].values(), found["overall"], found["ci"], found["unseen"], found["frechet"]):
        assert len(values) == 2
    for name in ("scores.png", "samples.png"):
        assert Image.open(out / name).info["tim.model"] == MODEL_FILE
    table = (out / "scores.md").read_text()
    assert "cfg 1\n" in table and "cfg 2.5\n" in table and "| single_object |" in table


def test_a_perfect_model_scores_as_real_scenes_do(stack, tmp_path, monkeypatch):
    """Real scenes at 1 step; at 2 steps that of the first task alone, and nothing else."""
    items = read_items(stack["data"])
    scenes = [draw_scene(0, 0, "unseen" if prompt.unseen else "seen", prompt.task) for prompt in make_prompts(1)]
    perfect = [render(scene, items) for scene in scenes]

    def draw(sampler, steps, cfg, bar):
        return perfect if steps == 1 else [perfect[0], *(np.zeros_like(picture) for picture in perfect[1:])]

    monkeypatch.setattr(PromptSampler, "draw", draw)
    monkeypatch.setattr("training.evaluation.recognizers.load_classifier", lambda path: NearestItem())
    assert run(stack, tmp_path) == 0
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["overall"] == [1, pytest.approx(1 / 6)]
    assert found["tasks"] == {name: [1, int(name == "single_object")] for name in TASKS}
    assert found["unseen"] == [1, 0]
    assert found["real"]["overall"] == 1
    assert [found[name] for name in ("classifier_accuracy", "color_accuracy", "emptiness_accuracy")] == [1, 1, 1]
    assert found["frechet"][0] == pytest.approx(0, abs=0.01), "each item has but one picture"
    assert found["frechet"][1] is None, "one thing has no covariance"


def test_without_items_there_is_no_distance_and_a_line_says_so(stack, tmp_path, capsys):
    assert run(stack, tmp_path / "out", data=tmp_path) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "no Fréchet distance" in said and str(tmp_path) in said
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert found.keys() == KEYS
    assert found["frechet"] == [None, None] and found["real"] is None and found["classifier_accuracy"] is None


def test_a_task_file_replaces_the_made_prompts(stack, tmp_path):
    prompts = [prompt for prompt in make_prompts(2, seed=5) if prompt.task == "position"]
    write_prompts(tmp_path / "tasks.jsonl", prompts)
    assert run(stack, tmp_path, "--per-task=9", tasks=tmp_path / "tasks.jsonl") == 0
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["count"] == 2 and found["tasks"].keys() == {"position"} and found["unseen"] == [None, None]


def test_emoji_scenes_have_a_recognizer_of_their_own(stack, tmp_path, capsys):
    torch.manual_seed(0)
    save_emoji_classifier(ThingClassifier(width=4).eval(), tmp_path / "emoji.safetensors")
    changed = {"classifier": tmp_path / "emoji.safetensors", "data": write_stand_ins(tmp_path / "drawings")}
    assert run(stack, tmp_path / "out", "--scenes=emoji", "--shape=2x2", **changed) == 0
    assert "recognizer on real scenes: " in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert found.keys() == KEYS and found["count"] == 12 and found["tasks"].keys() == EMOJI_TASKS.keys()
    prompts = make_emoji_prompts(1, shape=(2, 2))
    write_jsonl(tmp_path / "tasks.jsonl", [{"scenes": "emoji", **prompt.to_line()} for prompt in prompts])
    assert run(stack, tmp_path / "again", tasks=tmp_path / "tasks.jsonl", **changed) == 0
    assert (tmp_path / "again" / "scores.json").read_text() == (tmp_path / "out" / "scores.json").read_text()


def test_a_classifier_of_other_scenes_is_refused(stack, tmp_path, capsys):
    assert run(stack, tmp_path / "out", "--scenes=emoji") == 1
    error = capsys.readouterr().err
    assert "is no classifier of these things" in error and error.count("\n") == 1


@pytest.mark.parametrize("options", [[], ["--velocity"]])
def test_velocity_reaches_the_sampler(stack, tmp_path, monkeypatch, options):
    from training.evaluation.drawing import sample

    told = []

    def listening(*args, velocity, **kwargs):
        told.append(velocity)
        return sample(*args, velocity=velocity, **kwargs)

    monkeypatch.setattr("training.evaluation.drawing.sample", listening)
    assert run(stack, tmp_path, "--shape=1x1", *options) == 0
    assert set(told) == {bool(options)}
    assert json.loads((tmp_path / "scores.json").read_text())["velocity"] is bool(options)


def test_the_sheet_shows_as_many_tasks_as_one_size_has():
    def line(task: str, width: int, unseen: bool = False) -> Prompt:
        return Prompt(task, "", width, 32, {}, unseen)

    lines = [line("a", 32), line("a", 64), line("b", 64), line("a", 64), line("b", 32), line("c", 96)]
    assert sheet_places(lines) == [1, 2]
    assert sheet_places([*lines, line("c", 32, unseen=True), line("d", 32)]) == [0, 4, 7]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--steps=1,x", "--steps '1,x': expected whole numbers from 1"),
        ("--steps=0", "expected whole numbers from 1"),
        ("--steps=", "expected whole numbers from 1"),
        ("--cfg=0.5", "--cfg '0.5': expected numbers from 1"),
        ("--cfg=1,nan", "expected numbers from 1"),
        ("--cfg=inf", "expected numbers from 1"),
        ("--shape=4", "--shape '4': expected columns x rows, such as 4x3"),
        ("--shape=0x3", "no prompts"),
        ("--per-task=0", "no prompts"),
        ("--seed=-1", "--seed -1: expected a number from 0"),
        ("--batch=0", "--batch 0: expected a number from 1"),
        ("--tasks=missing.jsonl", "missing.jsonl: no such file"),
        ("--model=missing.safetensors", "missing.safetensors: no such file"),
        ("--classifier=missing.safetensors", "missing.safetensors"),
        ("--vae=", "needs a VAE"),
    ],
)
def test_what_cannot_be_done_is_one_line(stack, tmp_path, capsys, option, said):
    assert run(stack, tmp_path / "out", option) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_refuses_class_models_other_classifiers_and_files_in_the_way(stack, tmp_path, capsys):
    classes = TiMParams(
        **{**SMALL_TIM.to_dict(), "in_channels": 3, "patch_size": 4, "context_dim": None, "num_classes": 2}
    )
    write_tim(tmp_path / "classes.bin", classes)
    save_classifier(ItemClassifier(("cat", "dog"), 4), tmp_path / "pets.safetensors")
    (tmp_path / "file").touch()
    for changed, said in [
        ({"model": tmp_path / "classes.bin", "vae": ""}, "this is a class model"),
        ({"classifier": tmp_path / "pets.safetensors"}, "pets.safetensors: has 2 classes, expected"),
        ({"out": tmp_path / "file"}, "file"),
    ]:
        assert run(stack, **{"out": tmp_path / "out", **changed}) == 1
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
