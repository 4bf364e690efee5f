"""Latent spaces by channels or metadata, and the sizes that fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tim_model import OFFICIAL, CheckpointError
from tim_model.network.latent_space import LatentSpace, default_size, latent_shape, latent_space

PIXELS, SD, DC = latent_space(3), latent_space(4), latent_space(32)


@pytest.mark.parametrize(
    ("channels", "ratio", "scaling_factor"), [(3, 1, 1.0), (4, 8, 0.18215), (16, 16, 1.0), (32, 32, 0.41407)]
)
def test_channels_tell_known_spaces(channels, ratio, scaling_factor):
    assert latent_space(channels) == LatentSpace(channels, ratio, scaling_factor)


@pytest.mark.parametrize("channels", [4, 7])
def test_metadata_wins(channels):
    metadata = {"latent_space": '{"ratio": 16, "scaling_factor": 0.5}', "other": "entry"}
    assert latent_space(channels, metadata) == LatentSpace(channels, 16, 0.5)


BAD_RATIOS = ["0", "-8", "Infinity", "NaN", "1e999", "true", "2.5", "2000", '"16"', "[16]"]
BAD_FACTORS = ["NaN", "Infinity", "0", "-0.5", "true", '"1"', "null"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "16", "[16, 1]", '{"ratio": 16}', '{"ratio": "x", "scaling_factor": 1}', "null", "[" * 100_000),
        *(f'{{"ratio": {ratio}, "scaling_factor": 1}}' for ratio in BAD_RATIOS),
        *(f'{{"ratio": 16, "scaling_factor": {factor}}}' for factor in BAD_FACTORS),
    ],
    ids=lambda text: text[:40],
)
def test_unreadable_metadata_is_refused(text):
    with pytest.raises(CheckpointError, match="latent_space.*expected JSON such as"):
        latent_space(4, {"latent_space": text})


def test_unknown_channels_are_refused():
    with pytest.raises(CheckpointError, match="has 7 latent channels, expected 3, 4, 16, 32, or"):
        latent_space(7)


@pytest.mark.parametrize(
    ("space", "patch_size", "size", "shape"),
    [
        (PIXELS, 4, (32, 48), (5, 3, 48, 32)),
        (SD, 2, (256, 512), (5, 4, 64, 32)),
        (DC, 1, (1024, 768), (5, 32, 24, 32)),
        (DC, 1, (32, 32), (5, 32, 1, 1)),
    ],
)
def test_latent_shape(space, patch_size, size, shape):
    """Sizes are width x height, shapes (batch, channels, height, width)."""
    assert latent_shape(space, patch_size, *size, batch=5) == shape


@pytest.mark.parametrize(
    ("size", "near"), [((250, 256), "256x256"), ((256, 249), "256x256"), ((8, 256), "16x256"), ((0, -16), "16x16")]
)
def test_unfit_sizes_are_refused_with_a_near_one(size, near):
    with pytest.raises(ValueError, match=f"size {size[0]}x{size[1]}: expected multiples of 16 .* such as {near}"):
        latent_shape(SD, 2, *size, batch=1)


@pytest.mark.parametrize(
    ("name", "side"),
    [("tim-t2i-xl-p1", 1024), ("tim-c2i-xl-p1-512", 512), ("tim-c2i-xl-p2-256", 256), ("tim-c2i-b-p4-256", 256)],
)
def test_default_size_of_published_models(name, side):
    params = OFFICIAL[name].without_projector()
    assert default_size(params, latent_space(params.in_channels)) == (side, side)


def test_default_size_that_a_file_tells_wins():
    params = OFFICIAL["tim-t2i-xl-p1"]
    assert default_size(params, latent_space(params.in_channels), {"resolution": "2048"}) == (2048, 2048)


@pytest.mark.parametrize("told", ["", "0", "100", "-32", "1e3", "9" * 5000])
def test_senseless_resolutions_are_refused(told):
    params = OFFICIAL["tim-t2i-xl-p1"]
    with pytest.raises(CheckpointError, match="resolution.*multiple of 32"):
        default_size(params, latent_space(params.in_channels), {"resolution": told})


def test_default_size_of_others_is_8_by_8_tokens():
    params = replace(OFFICIAL["tim-c2i-b-p4-256"], depth=3, encoder_depth=1)
    assert default_size(params, SD) == (256, 256)
    assert default_size(replace(params, patch_size=2), PIXELS) == (16, 16)
