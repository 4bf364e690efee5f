"""Names of other trainers: each leads to a setting that is there."""

from __future__ import annotations

import re

from training.config.data_schema import FolderConfig
from training.config.elsewhere import NAMES, REFUSED, explained
from training.config.recipe import has_key
from training.config.schema import Config


def test_names_lead_to_settings():
    known = {match for told in NAMES.values() for match in re.findall(r"\b(?:data|model|optimizer|run)\.\w+", told)}
    assert len(known) > 15 and all(has_key(Config, key) for key in known)
    assert all(name in FolderConfig.__dataclass_fields__ for name in ("weight", "loss_weight", "regularization"))


def test_no_setting_is_refused_as_that_of_another_trainer():
    sections = [
        field.default_factory for field in Config.__dataclass_fields__.values() if callable(field.default_factory)
    ]
    own = {name for section in [*sections, FolderConfig] for name in section.__dataclass_fields__}
    assert "lr" in own and not own & {*NAMES, *REFUSED}


def test_reasons_name_what_to_do_instead():
    assert "objective.P_mean" in explained("min_snr_gamma") and explained("lr") == ""
