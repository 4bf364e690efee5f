"""Sizes are the nearest multiples of a token; nonsense is refused in one line."""

from __future__ import annotations

import math
from itertools import product

import pytest

from tim_model.network.latent_space import latent_shape, latent_space
from tim_model.sampling.sizes import (
    ASPECTS,
    MAX_SIDE,
    MEGAPIXEL,
    choose_size,
    describe_size,
    native_warning,
    nearest_multiple,
    parse_aspect,
    size_of,
    size_warning,
)

MEGAPIXELS = (0.06, 0.25, 0.5, 1, 1.5, 2, 4, 8, 12, 16)


@pytest.mark.parametrize(
    ("aspect", "megapixels", "unit", "size"),
    [
        (1, 1, 32, (1024, 1024)),
        (1, 16, 32, (4096, 4096)),
        (1, 0.25, 16, (512, 512)),
        (1, 0.0625, 32, (256, 256)),
        (16 / 9, 1, 32, (1376, 768)),
        (5 / 2, 1, 32, (1632, 640)),
        (4, 16, 32, (8192, 2048)),
        (1 / 4, 16, 32, (2048, 8192)),
        (1, 16.8, 32, (4192, 4192)),
    ],
)
def test_known_sizes(aspect, megapixels, unit, size):
    assert choose_size(aspect, megapixels, unit) == size


@pytest.mark.parametrize("unit", [8, 16, 32, 64])
@pytest.mark.parametrize("megapixels", MEGAPIXELS)
def test_no_multiples_are_nearer(megapixels, unit):
    area = megapixels * MEGAPIXEL
    for aspect in ASPECTS.values():
        ideal = math.sqrt(area * aspect), math.sqrt(area / aspect)
        size = choose_size(aspect, megapixels, unit)
        around = product(*([side + step * unit for step in (-1, 0, 1)] for side in size))
        assert math.dist(size, ideal) == min(math.dist(other, ideal) for other in around)
        assert abs(size[0] * size[1] / area - 1) <= math.prod(1 + unit / 2 / side for side in ideal) - 1
        assert all(side % unit == 0 for side in size)


@pytest.mark.parametrize(("name", "mirrored"), [("1:1", "1:1"), ("16:9", "9:16"), ("21:9", "9:21"), ("5:2", "2:5")])
def test_orientation_only_swaps_sides(name, mirrored):
    assert choose_size(ASPECTS[name], 1, 32) == choose_size(ASPECTS[mirrored], 1, 32)[::-1]


def test_models_take_the_sizes():
    width, height = choose_size(21 / 9, 2, 32)
    assert latent_shape(latent_space(32), 1, width, height, 1) == (1, 32, height // 32, width // 32)


@pytest.mark.parametrize(("text", "aspect"), [("16:9", 16 / 9), ("1.78", 1.78), (" 1 : 2 ", 0.5), ("2.35:1", 2.35)])
def test_parse_aspect(text, aspect):
    assert parse_aspect(text) == aspect


@pytest.mark.parametrize("text", ["", "wide", "16:9:1", "16:", "0:9", "16:0", "-16:-9", "nan", "inf", "1:inf", "0"])
def test_unreadable_aspects_are_refused(text):
    with pytest.raises(ValueError, match='^aspect .*expected width:height such as "16:9".*$'):
        parse_aspect(text)


@pytest.mark.parametrize("aspect", [0, -1, math.nan, math.inf])
def test_impossible_aspects_are_refused(aspect):
    with pytest.raises(ValueError, match=f"^aspect {aspect}: expected width over height"):
        choose_size(aspect, 1, 32)


@pytest.mark.parametrize("megapixels", [0, -1, 0.05, 17, math.nan, math.inf])
def test_impossible_areas_are_refused(megapixels):
    with pytest.raises(ValueError, match=f"^{megapixels} megapixels: expected 0.06 to 16.8; give the sides"):
        choose_size(1, megapixels, 32)


@pytest.mark.parametrize("aspect", [5, 1 / 5, 1e-300, 1e300])
def test_sides_beyond_8192_are_refused(aspect):
    with pytest.raises(ValueError, match="^size .*: expected sides of 32 to 8192 pixels; .*nearer to 1:1$"):
        choose_size(aspect, 16, 32)


@pytest.mark.parametrize("unit", [0, -32, math.nan])
def test_impossible_units_are_refused(unit):
    with pytest.raises(ValueError, match=f"^unit {unit}: expected the pixels of a token"):
        size_of(512, 512, unit)


@pytest.mark.parametrize(
    ("image", "unit", "size"),
    [
        ((1024, 768), 32, (1024, 768)),
        ((1000, 790), 32, (992, 800)),
        ((20, 30), 32, (32, 32)),
        ((1, 3), 1, (1, 3)),
        ((8192, 8191), 32, (8192, 8192)),
        ((8192, 8192), 48, (8160, 8160)),
    ],
)
def test_size_of_an_image_is_the_nearest(image, unit, size):
    assert size_of(*image, unit) == size


@pytest.mark.parametrize(("side", "multiple"), [(47, 32), (49, 64), (0.1, 32), (9000, 8992)])
def test_nearest_multiple(side, multiple):
    assert nearest_multiple(side, 32) == multiple


@pytest.mark.parametrize("image", [(0, 512), (512, 15), (8193, 512), (-512, 512), (math.nan, 512)])
def test_sizes_of_no_use_are_refused(image):
    with pytest.raises(ValueError, match="expected sides of 32 to 8192 pixels"):
        size_of(*image, 32)


@pytest.mark.parametrize(
    ("size", "unit", "text"),
    [
        ((4096, 4096), 32, "4096x4096, 16.0 MP, 16384 tokens"),
        ((1376, 768), 32, "1376x768, 1.0 MP, 1032 tokens"),
        ((256, 256), 16, "256x256, 0.06 MP, 256 tokens"),
    ],
)
def test_describe_size(size, unit, text):
    assert describe_size(*size, unit) == text


@pytest.mark.parametrize("unit", [8, 32, 64])
@pytest.mark.parametrize("name", ASPECTS)
def test_presets_never_warn(name, unit):
    assert not any(size_warning(*choose_size(ASPECTS[name], megapixels, unit), unit) for megapixels in MEGAPIXELS)


@pytest.mark.parametrize(
    ("size", "beyond"),
    [
        ((4160, 4160), "more than 4096x4096 pixels"),
        ((640, 1792), "an aspect beyond 2:5 to 5:2"),
        ((1792, 640), "an aspect beyond 2:5 to 5:2"),
        ((MAX_SIDE, 2560), "more than 4096x4096 pixels and an aspect beyond 2:5 to 5:2"),
    ],
)
def test_unpublished_sizes_warn_in_one_line(size, beyond):
    warning = size_warning(*size, 32)
    assert warning.startswith(f"{size[0]}x{size[1]} is {beyond}, beyond the published sizes of TiM: ")
    assert "\n" not in warning


@pytest.mark.parametrize(
    ("size", "trained", "times"),
    [
        ((2048, 2016), False, ""),
        ((2048, 2048), False, "4 times"),
        ((1280, 1024), True, ""),
        ((1280, 1280), True, "1.56 times"),
        ((3072, 1024), True, "3 times"),
    ],
)
def test_sizes_far_beyond_the_native_one_warn_in_one_line(size, trained, times):
    """Earlier where no larger area was trained on."""
    warning = native_warning(*size, (1024, 1024), trained)
    name = f"{size[0]}x{size[1]} pixels are far beyond this model's 1024x1024, {times} the area: "
    assert warning.startswith(name) if times else warning == ""
    assert "\n" not in warning
