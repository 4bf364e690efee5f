"""training.emoji.scene and captions: what is drawn is what captions ask for, evenly, reproducibly, some of it apart."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest

from training.emoji.captions import NAMES_COLORS, TASKS, is_unseen, is_unseen_pair, is_unseen_style
from training.emoji.prompts import make_prompts
from training.emoji.scene import SHAPES, Thing, crowded_scene, draw_scene, satisfies
from training.emoji.things import ASKED_FOR, BACKGROUNDS, COLORS, STYLES, THINGS

TRAINED = [draw_scene(0, index) for index in range(3000)]
UNSEEN = [draw_scene(0, index, "unseen", split="test") for index in range(600)]


def test_there_are_a_hundred_things_and_more_with_plain_names():
    assert len(THINGS) >= 100
    assert all(len(name.split()) <= 2 and name.replace(" ", "").isalpha() for name in THINGS)
    assert len({code for _, code in THINGS.values()}) == len(THINGS)


def test_scenes_are_a_function_of_seed_and_index():
    assert [draw_scene(0, index) for index in range(50)] == TRAINED[:50]
    assert [draw_scene(0, index, task=scene.task) for index, scene in enumerate(TRAINED[:50])] == TRAINED[:50]
    others = [draw_scene(1, index) for index in range(50)]
    assert sum(a.caption == b.caption for a, b in zip(TRAINED, others, strict=False)) < 10
    assert crowded_scene(0, 5) == crowded_scene(0, 5) != crowded_scene(1, 5)


@pytest.mark.parametrize("scenes", [TRAINED, UNSEEN], ids=["trained", "unseen"])
def test_scenes_are_what_they_require(scenes):
    for scene in scenes:
        assert satisfies(scene.things, scene.background, scene.requirement), scene
        assert satisfies(scene.things[::-1], scene.background, json.loads(json.dumps(scene.requirement))), scene
        cells = {(thing.column, thing.row) for thing in scene.things}
        assert len(cells) == len(scene.things)
        assert cells <= set(product(range(scene.columns), range(scene.rows)))
        assert len({thing.style for thing in scene.things}) == 1


def other(names, name):
    return next(n for n in names if n != name)


@pytest.mark.parametrize("scene", TRAINED[:60] + UNSEEN[:60])
def test_changed_scenes_are_refused(scene):
    first, *rest = scene.things
    more = Thing("cat", None, first.style, 9, 9)
    requirement, ground = scene.requirement, scene.background
    for things in ([replace(first, item=other(THINGS, first.item)), *rest], [*scene.things, more], rest):
        assert not satisfies(things, ground, requirement), scene
    restyled = [replace(first, style=other(STYLES, first.style)), *rest]
    assert satisfies(restyled, ground, requirement) == (requirement["style"] is None)
    assert satisfies(scene.things, other(BACKGROUNDS, ground), requirement) == (requirement["background"] is None)
    recolored = [replace(first, color=other(COLORS, first.color)), *rest]
    assert satisfies(recolored, ground, requirement) == (scene.task not in NAMES_COLORS)


def test_captions_say_what_is_required():
    for scene in TRAINED + UNSEEN:
        for wanted in scene.requirement["things"]:
            name = THINGS[wanted["item"]][0] if wanted["count"] > 1 else wanted["item"]
            assert name in scene.caption and (wanted["color"] or "") in scene.caption, scene.caption
        for word in (scene.requirement["style"], scene.requirement["background"]):
            assert word is None or word in scene.caption.split()


def test_all_that_can_be_asked_for_occurs():
    assert Counter(scene.task for scene in TRAINED) == {task: 500 for task in TASKS}
    assert {thing.item for scene in TRAINED for thing in scene.things} == set(THINGS)
    assert {(scene.columns, scene.rows) for scene in TRAINED} == set(SHAPES)
    assert {scene.background for scene in TRAINED} == set(BACKGROUNDS)
    usual = sum((scene.columns, scene.rows) == (2, 2) for scene in TRAINED)
    assert 0.45 < usual / len(TRAINED) < 0.75


def test_nothing_is_black_unless_asked_for():
    assert all(scene.requirement["background"] == ASKED_FOR for scene in TRAINED if scene.background == ASKED_FOR)


def test_combinations_are_held_apart():
    for scene in TRAINED:
        items = [thing["item"] for thing in scene.requirement["things"]]
        style = scene.requirement["style"]
        assert not any(thing.color and is_unseen(thing.item, thing.color) for thing in scene.things)
        assert style is None or not any(is_unseen_style(item, style) for item in items)
        assert len(items) == 1 or not is_unseen_pair(*items)
    assert all(len({name for name in THINGS if is_unseen(name, color)}) == 15 for color in COLORS)
    assert is_unseen_pair("cat", "dog") == is_unseen_pair("dog", "cat")


@pytest.mark.parametrize("scene", UNSEEN[:100])
def test_unseen_prompts_are_about_what_is_held_apart(scene):
    wanted = scene.requirement["things"]
    style, items = scene.requirement["style"], [thing["item"] for thing in wanted]
    apart = [thing["color"] is not None and is_unseen(thing["item"], thing["color"]) for thing in wanted]
    apart += [style is not None and is_unseen_style(item, style) for item in items]
    apart += [len(items) == 2 and is_unseen_pair(*items)]
    assert any(apart)


def test_prompts_are_in_phrasings_that_training_has_not():
    prompts = make_prompts(8, shape=(2, 2))
    assert Counter(prompt.task for prompt in prompts) == {task: 16 for task in TASKS}
    assert {(prompt.width, prompt.height) for prompt in prompts} == {(128, 128)}
    assert sum(prompt.unseen for prompt in prompts) == len(prompts) / 2
    starts = {" ".join(scene.caption.split()[:3]) for scene in TRAINED}
    assert not {" ".join(prompt.text.split()[:3]) for prompt in prompts} & starts


@pytest.mark.parametrize(("arguments", "expected"), [
    ({"task": "painting"}, "expected one of single_object"),
    ({"combinations": "odd"}, "combinations: expected"),
    ({"task": "counting", "shape": (1, 1)}, "does not fit into 1x1"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_named(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        draw_scene(0, 0, **arguments)
