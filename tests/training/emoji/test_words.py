"""training.emoji.words: what people write differently and mean alike gives the same tokens."""

from __future__ import annotations

import re

import pytest

from training.emoji.scene import draw_scene
from training.emoji.things import COLORS, THINGS
from training.emoji.words import replacements
from training.language_model.word_tokenizer import make_tokenizer

CAPTIONS = [draw_scene(0, index).caption for index in range(4000)]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(CAPTIONS, replacements())


@pytest.mark.parametrize(
    "prompt",
    [
        "an apple left of a bunny",
        "Apple, left of Rabbit!",
        "A photo of an apple to the left of the rabbit.",
        "one apple on the left of one rabbit",
        "  there is an APPLE\nleft of a single rabbit",
    ],
)
def test_articles_capitals_and_punctuation_change_nothing(tokenizer, prompt):
    assert tokenizer.tokenize(prompt) == tokenizer.tokenize("apple left rabbit")
    assert tokenizer.unknown_words(prompt) == [] or "\n" in prompt


@pytest.mark.parametrize("thing", THINGS)
def test_a_thing_is_one_token_in_singular_and_plural(tokenizer, thing):
    plural, _ = THINGS[thing]
    assert tokenizer.length(f"a {thing}") == 2, "<bos> and the thing"
    assert tokenizer.tokenize(f"two {plural}") == tokenizer.tokenize(f"2 {thing}")
    assert tokenizer.unknown_words(f"a red {thing} and {plural}") == []


def test_words_differ_where_they_mean_different_things(tokenizer):
    ids = {word: tuple(tokenizer.tokenize(word)) for word in [*THINGS, *COLORS, "two", "three", "four", "3d", "flat"]}
    assert len(set(ids.values())) == len(ids) and all(len(tokens) == 2 for tokens in ids.values())


@pytest.mark.parametrize("prompt", ["a spaceship", "an appletree", "hotdogs-r-us", "a cat-dog"])
def test_other_words_are_unknown_and_parts_of_words_are_not_replaced(tokenizer, prompt):
    assert tokenizer.unknown_words(prompt) == prompt.removeprefix("a ").removeprefix("an ").split()


def test_captions_have_no_unknown_word_and_are_short(tokenizer):
    assert all(tokenizer.unknown_words(caption) == [] for caption in CAPTIONS)
    assert max(tokenizer.length(caption) for caption in CAPTIONS) <= 13


def test_replacements_are_in_lower_case_and_none_is_undone_by_another():
    pairs = replacements()
    results = {by for _, by in pairs}
    assert all(text == text.lower() and re.fullmatch(r"[\w-]*", by) for text, by in pairs)
    assert results & {text for text, _ in pairs} <= {"one"}, "numbers become words, and one is left out at the end"
    assert ("one", "") in pairs[-1:]
