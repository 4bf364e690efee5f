"""Captions of FashionScenes: their English, their words, and what they can ask for on which canvas."""

from __future__ import annotations

import re
from collections import Counter
from itertools import permutations, product
from random import Random

import pytest

from training.scenes.captions import COLORS, ITEMS, PAIRS, RELATIONS, TASKS, all_words, caption, fits, holds
from training.scenes.scene import draw_scene


def thing(item: str, color: str | None = None, count: int = 1) -> dict:
    return {"item": item, "color": color, "count": count}


def phrasings(task: str, *things: dict, relation: str | None = None, draws: int = 1500) -> Counter:
    """How often each caption of a requirement comes up."""
    requirement = {"things": things, "relation": relation}
    return Counter(caption(task, requirement, Random(seed)) for seed in range(draws))


@pytest.fixture(scope="module")
def captions() -> list[str]:
    seen = [draw_scene(0, index).caption for index in range(3000)]
    return seen + [draw_scene(0, index, "unseen").caption for index in range(600)]


def test_words_are_exactly_those_of_captions(captions):
    assert {word for text in captions for word in text.split()} == set(all_words())
    assert all_words() == sorted(set(all_words()))


def test_captions_are_plain(captions):
    assert [text for text in captions if not re.fullmatch(r"[a-z]+([ -][a-z]+)*", text)] == []
    assert [text for text in captions if re.search(r"\ba [aeiou]|\ban [^aeiou]|\{|none", text)] == []
    assert max(len(text.split()) for text in captions) < 24


@pytest.mark.parametrize(
    ("task", "things", "relation", "expected"),
    [
        ("single_object", [thing("bag")], None, {"a bag", "there is one bag", "a picture of a single bag"}),
        ("colors", [thing("sneaker", "red")], None, {"a photo of a red sneaker", "there is a sneaker in red"}),
        ("colors", [thing("coat", "orange")], None, {"an orange coat", "an image of one orange coat"}),
        ("counting", [thing("dress", count=3)], None, {"three dresses", "there are exactly three dresses"}),
        ("counting", [thing("t-shirt", count=2)], None, {"a photo of two t-shirts"}),
        ("two_object", [thing("bag"), thing("coat")], None, {"a photo of a bag and a coat", "a bag with a coat"}),
        ("position", [thing("bag"), thing("coat")], "left of", {"a photo of a bag left of a coat"}),
        ("position", [thing("bag"), thing("coat")], "below", {"there is a bag under a coat"}),
        (
            "color_attribution",
            [thing("boot", "orange"), thing("coat", "blue")],
            None,
            {"a photo of an orange boot and a blue coat", "a boot in orange and a coat in blue"},
        ),
    ],
)
def test_phrasings(task, things, relation, expected):
    assert expected <= set(phrasings(task, *things, relation=relation))


def test_phrasings_are_equally_likely():
    counts = phrasings("position", thing("bag"), thing("coat"), relation="right of")
    assert len(counts) == 15
    assert 60 < min(counts.values()) and max(counts.values()) < 145  # 100 expected, with a deviation of 10


def test_relations_are_those_of_a_grid():
    assert holds("left of", (0, 2), (1, 0)) and not holds("left of", (1, 0), (1, 2))
    assert holds("above", (2, 0), (0, 1)) and not holds("above", (0, 1), (2, 1))
    for cell, other in product(product(range(3), repeat=2), repeat=2):
        assert holds("left of", cell, other) == holds("right of", other, cell)
        assert holds("above", cell, other) == holds("below", other, cell)


def test_fits_is_whether_a_choice_of_cells_exists():
    for columns, rows, number, relation in product(range(1, 4), range(1, 4), range(1, 5), [None, *RELATIONS]):
        cells = list(product(range(columns), range(rows)))
        related = relation is None or any(holds(relation, *pair) for pair in permutations(cells, 2))
        assert fits(number, relation, columns, rows) == (related and number <= len(cells))


def test_layouts_of_narrow_canvases():
    assert set(TASKS["position"].layouts([(1, 3)])) == {(1, "above"), (1, "below")}
    assert TASKS["counting"].layouts([(3, 1), (2, 2)]) == {
        (2, None): [(3, 1), (2, 2)], (3, None): [(3, 1), (2, 2)], (4, None): [(2, 2)],
    }  # fmt: skip
    assert [name for name, task in TASKS.items() if task.layouts([(1, 1)])] == ["single_object", "colors"]


def test_each_item_and_each_color_has_one_unseen_combination():
    assert Counter(item for item, _ in PAIRS["unseen"]) == Counter(list(ITEMS))
    assert {color for _, color in PAIRS["unseen"]} == set(COLORS)
    assert {("t-shirt", "green"), ("coat", "red"), ("sandal", "white")} < set(PAIRS["unseen"])
    assert sorted(PAIRS["seen"] + PAIRS["unseen"]) == sorted(product(ITEMS, COLORS))
