"""What is made of captions: lines, orders of tags, trigger words."""

from __future__ import annotations

from collections import Counter

import pytest

from training.config.data_schema import DataConfig
from training.data.captions import shuffled, trained_captions, with_trigger

TAGS = "1girl, red hair, smile, outdoors, hat"


def trained(*captions: str, trigger: str = "", seed: int = 0, **settings) -> tuple[str, ...]:
    return trained_captions(captions, trigger, DataConfig(path="photos", **settings), seed)


def test_captions_are_trained_as_they_are():
    assert trained("a cat\nin two lines ", TAGS) == ("a cat\nin two lines ", TAGS)
    assert trained() == ()


def test_lines():
    assert trained("a cat\n\n the same cat \n", "a dog", caption_per_line=True) == ("a cat", "the same cat", "a dog")


@pytest.mark.parametrize("keep", [0, 2, 5, 9])
def test_shuffled_tags_keep_the_first_and_lose_none(keep):
    orders = trained(TAGS, shuffle_tags=200, keep_tags=keep)
    assert len(orders) == 200
    for order in orders:
        assert sorted(order.split(", ")) == sorted(TAGS.split(", "))
        assert order.split(", ")[:keep] == TAGS.split(", ")[:keep]
    different = {0: 120, 2: 6}.get(keep, 1)  # 5! and 3! orders, of which 200 draws leave out few
    assert different * 0.75 <= len({*orders}) <= different


def test_orders_are_uniform():
    """Of 6000 orders each of 6 has 1000, with a standard deviation of 29."""
    counts = Counter(trained("a, b, c", shuffle_tags=6000))
    assert len(counts) == 6 and all(abs(n - 1000) < 150 for n in counts.values())


def test_orders_are_a_function_of_seed_caption_and_number():
    orders = [shuffled(TAGS, 0, 7, k) for k in range(20)]
    assert orders == [shuffled(TAGS, 0, 7, k) for k in range(20)] == list(trained(TAGS, seed=7, shuffle_tags=20))
    assert orders != [shuffled(TAGS, 0, 8, k) for k in range(20)]
    assert orders[:5] == list(trained(TAGS, seed=7, shuffle_tags=5))  # more of them keep those of before
    other = "1girl, blue hair, smile, outdoors, hat"
    assert orders != [shuffled(other, 0, 7, k).replace("blue", "red") for k in range(20)]


def test_empty_tags_are_dropped():
    assert shuffled("a,, ,b ,", 2, 0, 0) == "a, b"


def test_trigger_words_start_captions_that_lack_them():
    assert with_trigger("a cat", "sks") == "sks, a cat"
    assert with_trigger("a photo of sks", "sks") == "a photo of sks"
    assert with_trigger("cart, wheel", "art") == "art, cart, wheel"
    assert with_trigger("a (sks:1.2) cat", "(sks:1.2)") == "a (sks:1.2) cat"
    assert with_trigger("a cat", "") == "a cat"


def test_trigger_stays_in_front_of_shuffled_tags_and_of_every_line():
    captions = trained("a, b\nc", trigger="sks", shuffle_tags=3, caption_per_line=True)
    assert len(captions) == 6
    assert {*captions} <= {"sks, a, b", "sks, b, a", "sks, c"} and captions[3:] == ("sks, c",) * 3
