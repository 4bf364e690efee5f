"""training.tasks: reads what scenes.task_lines makes, names the bad line of other files, draws what is asked for."""

from __future__ import annotations

import json

import pytest

from tim_model.files import CheckpointError
from training.captions import TASKS
from training.scenes import satisfies, task_lines, write_lines
from training.tasks import TaskLine, read_tasks, real_scene

LINES = task_lines(4) + task_lines(2, shape=(4, 2))
PAIR = {"things": [{"item": "bag", "color": None, "count": 1}, {"item": "coat", "color": "red", "count": 1}]}


def line(width: object = 64, **requirement: object) -> dict:
    wanted = {**PAIR, "relation": None, **requirement}
    return {"task": "any", "prompt": "a bag", "width": width, "height": 32, "requirement": wanted, "unseen": False}


def test_reads_the_prompts_that_were_written(tmp_path):
    write_lines(tmp_path / "tasks.jsonl", LINES)
    assert read_tasks(tmp_path / "tasks.jsonl") == [TaskLine(**line) for line in LINES]
    assert {line["task"] for line in LINES} == set(TASKS)


def test_what_a_line_may_lack_and_what_it_may_hold_besides(tmp_path):
    short = line(things=[{"item": "bag", "count": 2}])
    del short["unseen"], short["requirement"]["relation"]
    (tmp_path / "tasks.jsonl").write_text(f"\n{json.dumps({**short, 'note': 'x'})}\n\n")
    requirement = {"things": [{"item": "bag", "color": None, "count": 2}], "relation": None}
    assert read_tasks(tmp_path / "tasks.jsonl") == [TaskLine("any", "a bag", 64, 32, requirement, False)]


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
        read_tasks(path)
    assert "\n" not in str(error.value)


def test_refuses_files_without_prompts_that_count(tmp_path):
    path = tmp_path / "tasks.jsonl"
    with pytest.raises(ValueError, match="no such file"):
        read_tasks(path)
    for content in ("", json.dumps({**line(), "unseen": True})):
        path.write_text(content)
        with pytest.raises(ValueError, match="expected some that are not of unseen combinations"):
            read_tasks(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"tasks\.jsonl: "):
        read_tasks(path)


def test_real_scenes_show_what_is_asked_for_and_vary_with_the_seed():
    lines = [TaskLine(**line) for line in LINES]
    scenes = [real_scene(line, i, 0) for i, line in enumerate(lines)]
    for scene, line in zip(scenes, lines, strict=True):
        assert satisfies(scene.things, line.requirement)
        assert scene.size == (line.width, line.height)
        assert len({(thing.column, thing.row) for thing in scene.things}) == len(scene.things)
    assert scenes == [real_scene(line, i, 0) for i, line in enumerate(lines)]
    others = [real_scene(line, i, 1) for i, line in enumerate(lines)]
    assert sum(a.things != b.things for a, b in zip(scenes, others, strict=True)) > len(lines) / 2
