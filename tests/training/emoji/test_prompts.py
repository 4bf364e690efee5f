"""training.emoji.prompts: requirements are checked, real scenes show what is asked for and what is left open varies."""

from __future__ import annotations

import json

import pytest

from training.emoji.__main__ import main
from training.emoji.prompts import make_prompts, parse_requirement, real_scene, shown
from training.emoji.scene import CELL, satisfies
from training.emoji.things import ASKED_FOR
from training.evaluation.kinds import DEFAULT, KINDS, kind_of
from training.scenes.prompts import read_prompts

PROMPTS = make_prompts(10)
CAT = {"item": "cat", "color": None, "count": 1}
DOG = {"item": "dog", "color": "red", "count": 1}


def requirement(**changed: object) -> dict:
    return {"things": [CAT, DOG], "relation": None, "style": None, "background": None, **changed}


def test_the_command_writes_what_evaluation_reads(tmp_path, capsys):
    path = tmp_path / "prompts.jsonl"
    assert main(["prompts", str(path), "--per-task", "10"]) == 0
    assert str(path) in capsys.readouterr().out
    kind = KINDS[kind_of(path)]
    assert kind.name == "emoji" and kind.cell == CELL
    assert read_prompts(path, kind.cell, kind.check) == PROMPTS


def test_files_say_which_kind_of_scenes_they_are_about(tmp_path):
    path = tmp_path / "prompts.jsonl"
    for text in ("", "{", "[]", '\n{"task": "any"}\n'):
        path.write_text(text)
        assert kind_of(path) == DEFAULT
    path.write_text(json.dumps({"scenes": "paintings"}))
    with pytest.raises(ValueError, match="prompts for scenes 'paintings', expected fashion or emoji"):
        kind_of(path)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_real_scenes_show_what_is_asked_for(prompt):
    columns, rows = prompt.width // CELL, prompt.height // CELL
    assert parse_requirement(prompt.requirement, columns, rows) == prompt.requirement
    scene = real_scene(prompt, 3, seed=1)
    assert scene.size == (prompt.width, prompt.height) and scene == real_scene(prompt, 3, seed=1)
    assert satisfies(scene.things, scene.background, prompt.requirement)
    assert scene.background != ASKED_FOR or prompt.requirement["background"] == ASKED_FOR


def test_what_prompts_leave_open_varies():
    prompt = next(p for p in PROMPTS if not (p.requirement["background"] or p.requirement["style"]))
    scenes = [real_scene(prompt, index, seed=0) for index in range(60)]
    assert len({scene.background for scene in scenes}) >= 6
    assert len({scene.things[0].style for scene in scenes}) == 3


def test_a_thing_alone_is_where_its_square_begins():
    alone = next(prompt for prompt in make_prompts(1, shape=(3, 1)) if prompt.task == "single_object")
    (thing,) = shown(real_scene(alone, 0, 0))
    assert (thing.column, thing.row) == (1, 0)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (requirement(things=[]), "expected things"),
        (requirement(relation="beside"), "expected things and a relation"),
        (requirement(style="cubist"), "expected a style"),
        (requirement(background="plaid"), "and a background"),
        (requirement(things=[{**CAT, "item": "hat"}]), "expected an item such as cat"),
        (requirement(things=[{**CAT, "color": "beige"}]), "a color"),
        (requirement(things=[{**CAT, "count": True}]), "a count"),
        (requirement(things=["cat"]), "expected an item such as cat"),
        (requirement(things=[CAT, CAT]), "expected different things"),
        (requirement(things=[CAT], relation="left of"), "one of each of two in a relation"),
        (requirement(things=[{**CAT, "count": 5}]), "does not fit into 2x2 cells"),
    ],
)
def test_what_no_image_can_be_judged_by_is_refused(bad, said):
    with pytest.raises(ValueError, match=said):
        parse_requirement(bad, 2, 2)


def test_no_prompts_are_refused():
    with pytest.raises(ValueError, match="no prompts"):
        make_prompts(0)
