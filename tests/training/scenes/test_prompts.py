"""training.scenes.prompts: reads what was written, names the bad line of other files, draws what is asked for."""

from __future__ import annotations

import json

import pytest

from tim_model.files.tensor_files import CheckpointError
from training.scenes.captions import TASKS
from training.scenes.folder import make_prompts, write_prompts
from training.scenes.prompts import Prompt, read_prompts, real_scene
from training.scenes.scene import satisfies

PROMPTS = make_prompts(4) + make_prompts(2, shape=(4, 2))
PAIR = {"things": [{"item": "bag", "color": None, "count": 1}, {"item": "coat", "color": "red", "count": 1}]}


def line(width: object = 64, **requirement: object) -> dict:
    wanted = {**PAIR, "relation": None, **requirement}
    return {"task": "any", "prompt": "a bag", "width": width, "height": 32, "requirement": wanted, "unseen": False}


def test_reads_the_prompts_that_were_written(tmp_path):
    write_prompts(tmp_path / "tasks.jsonl", PROMPTS)
    assert read_prompts(tmp_path / "tasks.jsonl") == PROMPTS
    assert {prompt.task for prompt in PROMPTS} == set(TASKS)


def test_what_a_line_may_lack_and_what_it_may_hold_besides(tmp_path):
    short = line(things=[{"item": "bag", "count": 2}])
    del short["unseen"], short["requirement"]["relation"]
    (tmp_path / "tasks.jsonl").write_text(f"\n{json.dumps({**short, 'note': 'x'})}\n\n")
    requirement = {"things": [{"item": "bag", "color": None, "count": 2}], "relation": None}
    assert read_prompts(tmp_path / "tasks.jsonl") == [Prompt("any", "a bag", 64, 32, requirement, False)]


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[1]",
        "null",
        json.dumps({"task": "any"}),
        json.dumps(line(width="64")),
        json.dumps(line(width=40)),
        json.dumps(line(width=0)),
        json.dumps(line(width=32)),
        json.dumps(line(things=[])),
        json.dumps(line(things=["bag"])),
        json.dumps(line(things=[{"item": "hat", "color": None, "count": 1}])),
        json.dumps(line(things=[{"item": ["bag"], "color": None, "count": 1}])),
        json.dumps(line(things=[{"item": "bag", "color": "pink", "count": 1}])),
        json.dumps(line(things=[{"item": "bag", "color": None, "count": 0}])),
        json.dumps(line(things=[{"item": "bag", "color": None, "count": 1.5}])),
        json.dumps(line(things=PAIR["things"][:1] * 2)),
        json.dumps(line(relation="beside")),
        json.dumps(line(relation="above")),
        json.dumps(line(relation="left of", things=PAIR["things"][:1])),
    ],
)
def test_names_the_bad_line(tmp_path, bad):
    path = tmp_path / "tasks.jsonl"
    path.write_text(f"{json.dumps(line())}\n{bad}\n")
    with pytest.raises(CheckpointError, match=r"tasks\.jsonl:2: ") as error:
        read_prompts(path)
    assert "\n" not in str(error.value)


def test_refuses_files_without_prompts_that_count(tmp_path):
    path = tmp_path / "tasks.jsonl"
    with pytest.raises(ValueError, match="no such file"):
        read_prompts(path)
    for content in ("", json.dumps({**line(), "unseen": True})):
        path.write_text(content)
        with pytest.raises(ValueError, match="expected some that are not of unseen combinations"):
            read_prompts(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"tasks\.jsonl: "):
        read_prompts(path)


def test_real_scenes_show_what_is_asked_for_and_vary_with_the_seed():
    scenes = [real_scene(prompt, i, 0) for i, prompt in enumerate(PROMPTS)]
    for scene, prompt in zip(scenes, PROMPTS, strict=True):
        assert satisfies(scene.things, prompt.requirement)
        assert scene.size == (prompt.width, prompt.height)
        assert len({(thing.column, thing.row) for thing in scene.things}) == len(scene.things)
    assert scenes == [real_scene(prompt, i, 0) for i, prompt in enumerate(PROMPTS)]
    others = [real_scene(prompt, i, 1) for i, prompt in enumerate(PROMPTS)]
    assert sum(a.things != b.things for a, b in zip(scenes, others, strict=True)) > len(PROMPTS) / 2
