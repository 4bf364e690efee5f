"""Labels of class-conditioned models."""

from __future__ import annotations

from collections.abc import Sequence


def label_index(label: str, num_classes: int, class_names: Sequence[str] = ()) -> int:
    """The label that a name of `class_names` (in any case) or a number means.

    Raises:
        ValueError: neither a name of the model nor a number from 0 to num_classes - 1.
    """
    word = label.strip().lower()
    lowered = [name.lower() for name in class_names]
    if word in lowered:
        return lowered.index(word)
    if word.isdecimal() and int(word) < num_classes:
        return int(word)
    names = f", or a name: {', '.join(class_names)}" if class_names else ""
    raise ValueError(f"class {label!r}: expected a number from 0 to {num_classes - 1}{names}")
