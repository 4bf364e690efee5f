"""Conditions of prompts in a batch are those of each prompt alone, and each text is encoded once."""

from __future__ import annotations

import pytest
import torch

from tim_model.bulk.conditions import TextConditions
from tim_model.text.encoder import TextEncoder, load_text_encoder, pad_features

PROMPTS = ["a fox", "a hat", "a red fox in the snow", "x"]


@pytest.fixture(scope="module")
def encoder(stack) -> TextEncoder:
    return load_text_encoder(stack.text_encoder)


@pytest.fixture
def encoded(monkeypatch) -> list[str]:
    """The texts that were encoded, in their order."""
    texts, encode = [], TextEncoder.encode
    monkeypatch.setattr(TextEncoder, "encode", lambda self, prompts: texts.extend(prompts) or encode(self, prompts))
    return texts


@pytest.mark.parametrize("negative", [None, "", "blurry and gray"])
def test_conditions_are_those_of_the_prompt_alone(encoder, negative):
    conditions = TextConditions(lambda: encoder, negative)
    for prompt in PROMPTS:
        context, null_context = conditions.of([prompt, prompt], "cpu")
        texts = [prompt] if negative is None else [prompt, negative]
        alone = pad_features(encoder.encode(texts), encoder.pad_feature)
        assert conditions.length(prompt) == context.shape[1] == alone.shape[1]
        assert torch.equal(context, alone[[0, 0]])
        assert null_context is None if negative is None else torch.equal(null_context, alone[[1, 1]])


def test_each_text_is_encoded_once(encoder, encoded):
    conditions = TextConditions(lambda: encoder, "")
    conditions.of(["a fox", "a hat", "a fox"], "cpu")
    conditions.of(["a hat", "a hat"], "cpu")
    conditions.of(["x"], "cpu")
    assert encoded == ["a fox", "a hat", "", "x"]
    assert list(conditions.features) == ["x", ""]  # no more than the last batch stays in memory
