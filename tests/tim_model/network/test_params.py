"""The architecture record, and the published architectures."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from tim_model import OFFICIAL, TiM, TiMParams
from tim_model.network.params import layout_name

CLASS = {
    "in_channels": 4, "patch_size": 2, "hidden_size": 48, "depth": 3, "num_heads": 4, "mlp_hidden": 128,
    "adaln_hidden": 16, "num_classes": 10,
}  # fmt: skip
MILLIONS = {
    "tim-t2i-xl-p1": 864.98,
    "tim-c2i-xl-p2-256": 664.13,
    "tim-c2i-xl-p1-512": 664.16,
    "tim-c2i-b-p4-256": 128.83,
}


@pytest.mark.parametrize("name", MILLIONS)
def test_official_names_and_shapes(facts, name):
    weights = TiM(OFFICIAL[name], device="meta").state_dict()
    assert {key: list(value.shape) for key, value in weights.items()} == facts[name]


@pytest.mark.parametrize(("name", "millions"), MILLIONS.items())
def test_official_parameter_counts(name, millions):
    net = TiM(OFFICIAL[name].without_projector(), device="meta")
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == millions


def test_every_published_layout_is_covered(facts):
    assert set(OFFICIAL) == set(facts) == set(MILLIONS)


@pytest.mark.parametrize("name", OFFICIAL)
def test_layout_name_ignores_the_projector(name):
    assert layout_name(OFFICIAL[name]) == layout_name(OFFICIAL[name].without_projector()) == name
    assert layout_name(replace(OFFICIAL[name], in_channels=5)) == "custom"


@pytest.mark.parametrize(("depth", "encoder_depth"), [(28, 8), (12, 4), (3, 1), (1, 1)])
def test_default_encoder_depth(depth, encoder_depth):
    assert TiMParams(**CLASS | {"depth": depth}).encoder_depth == encoder_depth


def test_dict_holds_what_is_set_and_restores_the_record():
    params = TiMParams(**CLASS)
    assert params.to_dict() == CLASS | {"encoder_depth": 1}
    assert TiMParams(**params.to_dict()) == params
    assert params.head_dim == 12
    with pytest.raises(FrozenInstanceError):
        params.depth = 4


def test_without_projector():
    params = TiMParams(**CLASS, z_dim=6, projector_dim=8)
    assert params.without_projector() == TiMParams(**CLASS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, "depth=0: expected a whole number"),
        ({"in_channels": -3}, "in_channels=-3"),
        ({"hidden_size": "wide"}, "hidden_size=wide: expected a whole number"),
        ({"patch_size": 1.5}, "patch_size=1.5: expected a whole number"),
        ({"context_dim": 32}, "context_dim=32 and num_classes=10: set exactly one"),
        ({"num_classes": None}, "context_dim=None and num_classes=None: set exactly one"),
        ({"num_heads": 5}, "hidden_size=48 over num_heads=5"),
        ({"num_heads": 8}, "hidden_size=48 over num_heads=8"),  # heads of 6 features, no two axes of pairs
        ({"encoder_depth": 4}, "encoder_depth=4: expected 1 to depth=3"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValueError) as error:
        TiMParams(**CLASS | changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
