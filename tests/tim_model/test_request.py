"""The record of what is asked for, gathered from keywords, and what PNG files say of it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from tim_model.request import Request, gather
from tim_model.sampling.progressive import Stage
from tim_model.sampling.sampler import Sampling

STAGES = (Stage(64, 64, (1.0, 0.5, 0.0)), Stage(128, 64, (0.1, 0.0)))


def test_keywords_are_gathered():
    found = gather((64, 32), "a fox", negative="blurry", steps=2, seed=3, cfg=4.0, stochasticity=0.2, rope="ntk")
    assert found == Request(
        ("a fox",), negative="blurry", stages=(Stage(64, 32, (1.0, 0.5, 0.0)),), seed=3,
        sampling=Sampling(cfg=4.0, stochasticity=0.2), rope="ntk",
    )  # fmt: skip
    with pytest.raises(FrozenInstanceError):
        found.seed = 4


def test_what_is_given_replaces_the_defaults():
    assert gather((64, 32), classes=["1", "2"]).sampling.cfg == 2.5
    assert gather((64, 32), classes="1", size=(32, 32), times=[1, 0.2, 0]).stages == (Stage(32, 32, (1, 0.2, 0)),)
    assert gather((64, 32), classes="1", stages=STAGES).stages == STAGES


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected prompts for a text model, or classes for a class model"),
        ({"prompts": "a", "classes": "1"}, "expected prompts for a text model, or classes for a class model"),
        ({"prompts": []}, "expected a text, or a list of texts"),
        ({"prompts": "a", "rope": "wide"}, "RoPE scaling 'wide': expected one of none, linear, ntk, yarn"),
        ({"prompts": "a", "enlarge": "both"}, "enlarge='both': expected one of pixels, latents"),
        ({"prompts": "a", "stages": STAGES, "size": (64, 64)}, "stages have sizes and times of their own"),
        ({"prompts": "a", "stochasticity": -1.0}, "stochasticity=-1.0 on ot_fm"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")) as refusal:
        gather((64, 32), **settings)
    assert "\n" not in str(refusal.value)


def test_metadata():
    request = Request(
        ("a fox",) * 2, negative="blurry", stages=STAGES, seed=7, sampling=Sampling(2.5, (0.0, 0.9), 0.1),
        strategy="progressive", renoise=0.1, enlarge="latents",
    )  # fmt: skip
    assert request.metadata() == {
        "prompt": "a fox", "negative": "blurry", "steps": 2, "times": "1, 0.5, 0; 0.1, 0", "cfg": 2.5,
        "guidance": "0 0.9", "stochasticity": 0.1, "seed": 7, "size": "128x64", "strategy": "progressive",
        "renoise": 0.1, "enlarge": "latents", "stages": "64x64, 128x64", "rope": "none",
    }  # fmt: skip
    plain = Request(classes=("bag",), stages=STAGES[:1]).metadata()
    assert list(plain)[:2] == ["class", "steps"] and "negative" not in plain and "stages" not in plain
