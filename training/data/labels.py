"""Maps labels of training data to classes, by name if the weights or the config have names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .inspection import MAX_CLASSES
from .layouts.entries import count, some

Label = int | str
NUMBER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class KnownClasses:
    """The classes of the weights that a run starts or resumes from."""

    source: str  # such as "the checkpoint"
    count: int  # labels are below this
    names: list[str]  # of the first labels, [] if unknown
    fixed: bool = False  # from a state, whose numbers must not change


@dataclass(frozen=True)
class Classes:
    """The number of each label that has a number, and the names in the order of the numbers."""

    numbers: dict[Label, int]
    names: list[str]  # a class without a name is listed by its number
    notes: list[str] = field(default_factory=list)


def number_classes(found: Iterable[Label], class_names: Sequence[str], known: KnownClasses | None) -> Classes:
    """The classes of labels: by the config's names, else by known names, else by number, else in the order of names.

    Args:
        class_names: of the config, in the order of the numbers. Labels that are neither among them nor one of their
            numbers get no number.

    Raises:
        ValueError: labels that the weights do not know, names and numbers mixed, or names that contradict the state's.
    """
    labels = set(found)
    if class_names:
        classes = configured(labels, class_names, known)
    elif known and known.names:
        classes = matched(labels, known)
    else:
        classes = in_order(labels, known)
    members: dict[int, list[Label]] = {}
    for label, number in classes.numbers.items():
        if label in labels:
            members.setdefault(number, []).append(label)
    same = [f"{' and '.join(sorted(map(repr, m)))} are both class {n}" for n, m in members.items() if len(m) > 1]
    return Classes(classes.numbers, classes.names, [*classes.notes, *same])


def look_up(label: Label, names: Sequence[str], count: int) -> int | None:
    """The number of a label: the index of its name, ignoring case if necessary, else its own number."""
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, str) and (lowered := [name.lower() for name in names]).count(label.lower()) == 1:
        return lowered.index(label.lower())
    number = as_number(label)
    return number if isinstance(number, int) and 0 <= number < count else None


def as_number(label: Label) -> Label:
    """The number of a label that consists of digits; any other label unchanged."""
    return int(label) if isinstance(label, str) and NUMBER.fullmatch(label) else label


def configured(labels: set[Label], class_names: Sequence[str], known: KnownClasses | None) -> Classes:
    """Labels in the order of `data.class_names`; after those, the names of the weights remain."""
    numbers = {label: look_up(label, class_names, len(class_names)) for label in labels}
    others = known.names if known else []
    changed = [(i, a, b) for i, (a, b) in enumerate(zip(class_names, others, strict=False)) if a.lower() != b.lower()]
    if changed:
        number, new, old = changed[0]
        text = f"data.class_names: calls class {number} {new!r}, {known.source} calls it {old!r}"
        if known.fixed:
            raise ValueError(f"{text}; expected {', '.join(others)}")
    taken = {name.lower() for name in class_names}
    rest = ((i, name) for i, name in enumerate(others) if i >= len(class_names))
    names = [*class_names, *(str(i) if name.lower() in taken else name for i, name in rest)]
    return Classes({k: n for k, n in numbers.items() if n is not None}, names, [text] if changed else [])


def matched(labels: set[Label], known: KnownClasses) -> Classes:
    """Labels by the names of the weights; all of them must be known."""
    numbers = {label: look_up(label, known.names, known.count) for label in labels}
    unknown = sorted(str(label) for label, number in numbers.items() if number is None)
    if unknown:
        near = difflib.get_close_matches(unknown[0], known.names, 1, cutoff=0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        counts = f"has {count(len(labels), 'class', 'classes')}, {known.source} knows {known.count}"
        another = "; another run.folder=… starts another run" if known.fixed else ""
        raise ValueError(
            f"data.path: {counts}, but not {some(unknown, 10)}{hint}; expected {some(known.names, 20)}, or numbers "
            f"from 0; data.class_names gives the numbers other names{another}"
        )
    return Classes(numbers, known.names)


def in_order(labels: set[Label], known: KnownClasses | None) -> Classes:
    """Labels that are numbers are used directly; names are numbered in sorted order.

    Sorted order is right for an ImageNet checkpoint if all folders are present; other weights need names.
    """
    numbers = {label: number for label in labels if isinstance(number := as_number(label), int)}
    names = sorted(label for label in labels - numbers.keys())
    if names and numbers:
        both = f"names ({names[0]!r}) and numbers ({min(numbers.values())})"
        raise ValueError(f"data.path: labels are both {both}, expected one kind, or their order in data.class_names")
    if not names:
        return Classes({label: number for label, number in numbers.items() if 0 <= number < MAX_CLASSES}, [])
    if known and (known.fixed or len(names) != known.count):
        raise ValueError(
            f"data.path: has the classes {some(names)}, but {known.source} has no names for its {known.count}; "
            f"expected folders or labels named 0 to {known.count - 1}, or data.class_names in the order of its numbers"
        )
    notes = [f"{known.source} has no names for its classes: those of the data are taken, in order"] if known else []
    return Classes({name: i for i, name in enumerate(names)}, names, notes)
