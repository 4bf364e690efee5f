"""Labels of training data and the classes that they mean, by name where the weights or the config know names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .cache import MAX_CLASSES
from .entries import count, some

Label = int | str
NUMBER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class KnownClasses:
    """The classes of weights that a run starts from, or goes on from."""

    source: str  # such as "the checkpoint"
    count: int  # labels are below this
    names: list[str]  # of the first labels, [] where nobody knows them
    fixed: bool = False  # those of a state, whose numbers nothing may change


@dataclass(frozen=True)
class Classes:
    """The number of each label that has one, and the names in the order of the numbers."""

    numbers: dict[Label, int]
    names: list[str]  # a class without a name of its own stands as its number
    notes: list[str] = field(default_factory=list)


def number_classes(found: Iterable[Label], class_names: Sequence[str], known: KnownClasses | None) -> Classes:
    """The classes that labels mean: by the config's names, else by known ones, else by number, else in order of names.

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
    """The number of a label: the place of its name, in any case if need be, else the number that it is."""
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, str) and (lowered := [name.lower() for name in names]).count(label.lower()) == 1:
        return lowered.index(label.lower())
    number = as_number(label)
    return number if isinstance(number, int) and 0 <= number < count else None


def as_number(label: Label) -> Label:
    """The number that a label of digits alone is; any other label as it is."""
    return int(label) if isinstance(label, str) and NUMBER.fullmatch(label) else label


def configured(labels: set[Label], class_names: Sequence[str], known: KnownClasses | None) -> Classes:
    """Labels in the order of `data.class_names`; behind them the names of the weights stay true."""
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
    """Labels that are numbers mean themselves, names are numbered in their order.

    The order is right for a checkpoint of ImageNet, all of whose folders are there; other weights must say more.
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
