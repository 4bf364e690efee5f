"""The included files of EmojiScenes fit together, know all things, and are small."""

from __future__ import annotations

import torch

from tim_model import load_text_encoder, load_vae
from training.config.load import load_config
from training.emoji.classifier import load_classifier
from training.emoji.things import BACKGROUNDS, COLORS, NAMED_STYLES, THINGS
from training.evaluation.bundled import EMOJI_STACK
from training.stacks.emoji import EMOJI


def test_the_text_encoder_knows_what_can_be_asked_for():
    encoder = load_text_encoder(EMOJI_STACK["text_encoder"])
    words = [*THINGS, *(plural for plural, _ in THINGS.values()), *COLORS, *BACKGROUNDS, *NAMED_STYLES, "two", "four"]
    assert [word for word in words if encoder.tokenizer.length(word) != 2] == [], "<bos> and one token"
    assert encoder.tokenizer.unknown_words("A spaceship, above the kitten.") == ["spaceship"]
    (cat,), (kitten,) = encoder.encode(["a cat"]), encoder.encode(["The kitten!"])
    torch.testing.assert_close(cat, kitten)


def test_the_vae_has_the_latents_of_the_recipe():
    vae = load_vae(EMOJI_STACK["vae"])
    assert (vae.ratio, vae.channels) == (16, 16)
    patch = load_config(EMOJI.recipes / "tim.yaml").model.patch_size
    assert 64 % (vae.ratio * patch) == 0, "cells have whole tokens"
    image = torch.full((1, 3, 64, 128), 0.6)
    decoded = vae.decode(vae.encode(image))
    assert (decoded - image).abs().max() < 0.15, "an empty canvas stays one"


def test_the_classifier_loads():
    assert set(THINGS) < set(load_classifier(EMOJI_STACK["classifier"]).class_names)


def test_files_leave_room_for_the_network():
    assert sum(EMOJI_STACK[part].stat().st_size for part in ("text_encoder", "vae", "classifier")) < 10e6
