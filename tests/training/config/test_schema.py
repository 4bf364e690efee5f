"""Sections that check their own values."""

from __future__ import annotations

import pytest

from training.config.schema import ObjectiveConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "gan"}, "objective 'gan': expected one of tim, flow_matching, meanflow, modular_meanflow"),
        ({"derivative": "euler"}, "derivative 'euler': expected one of dde, jvp"),
        ({"power": -1.0}, "power=-1.0: expected a number from 0"),
        ({"epsilon": 0.0}, "epsilon=0.0: expected a time difference above 0"),
        ({"transport": "ddpm"}, "transport 'ddpm': expected one of"),
        ({"diffusion_ratio": 0.95}, "diffusion_ratio=0.95 and consistency_ratio=0.1: expected shares"),
        ({"consistency_ratio": -0.1}, "consistency_ratio=-0.1"),
        ({"modulation": 1.5}, "modulation=1.5: expected a share from 0 to 1"),
        ({"modulation_warmup": -1}, "modulation_warmup=-1: expected a number of steps"),
        ({"tangent": "mine"}, "tangent 'mine': expected one of own, sample"),
        ({"teacher": "flow.safetensors"}, "teacher='flow.safetensors': expected none, or name=split_meanflow"),
        ({"teacher": "a", "name": "split_meanflow", "guided": True}, "teacher='a': expected none"),
        ({"P_std": 0.0}, "P_std=0.0: expected a number above 0"),
        ({"shift_base": 0}, "shift_base=0: expected a number of tokens"),
        ({"shift_base": 64, "transport": "edm"}, "shift_base=64: expected a number of tokens from 1, on ot_fm only"),
    ],
)
def test_objectives_check_their_settings(options, message):
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**options)
