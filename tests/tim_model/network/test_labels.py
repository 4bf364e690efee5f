"""Class labels by number or name."""

from __future__ import annotations

import pytest

from tim_model.network.labels import label_index

NAMES = ["T-shirt", "ankle boot", "3"]


@pytest.mark.parametrize(
    ("label", "index"),
    [("0", 0), (" 2 ", 2), ("ankle boot", 1), ("Ankle Boot", 1), ("t-SHIRT ", 0), ("3", 2)],  # a name before a number
)
def test_numbers_and_names(label, index):
    assert label_index(label, 3, NAMES) == index


def test_models_without_names():
    assert label_index("999", 1000) == 999


@pytest.mark.parametrize("label", ["4", "-1", "1.5", "", "boot", "²"])
def test_unknown_labels_are_refused(label):
    with pytest.raises(ValueError) as error:
        label_index(label, 4, NAMES)
    assert str(error.value) == f"class {label!r}: expected a number from 0 to 3, or a name: T-shirt, ankle boot, 3"


def test_label_of_no_class_is_no_choice():
    with pytest.raises(ValueError, match="class '10': expected a number from 0 to 9$"):
        label_index("10", 10)
