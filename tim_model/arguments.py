"""Parsers for the values of the command line: what argparse shows when it refuses one."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

from .sizes import MAX_SIDE


def step_counts(text: str) -> list[int]:
    try:
        counts = [int(word) for word in text.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers from 1, such as 4 or 1,4,16")
    return counts


def refusing(parse: Callable[[str], object]) -> Callable[[str], object]:
    """`parse` whose ValueError argparse shows as it is."""

    def parser(text: str) -> object:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parser


def at_least(lowest: float, highest: float = math.inf) -> Callable[[str], float]:
    """A parser of numbers of the type of `lowest` and within both ends."""

    def parse(text: str) -> float:
        try:
            number = type(lowest)(text)
        except ValueError:
            number = math.nan
        if not lowest <= number <= highest:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number from {lowest} to {highest}")
        return number

    return parse


def picture_size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) <= MAX_SIDE for side in sides):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected WIDTHxHEIGHT in pixels, up to {MAX_SIDE} each, such as 1024x768"
        )
    return int(sides[0]), int(sides[1])


def lora_strength(text: str) -> tuple[Path, float]:
    """FILE or FILE:strength, such as "fox.safetensors:0.8"; a strength is what follows the last colon, if a number can.

    Raises:
        ValueError: a strength that is no finite number.
    """
    head, colon, tail = text.rpartition(":")
    drive = re.fullmatch("[A-Za-z]", head)  # C:fox.safetensors
    if not colon or drive or re.search(r"[\\/]", tail) or Path(text).is_file():
        return Path(text), 1.0
    try:
        strength = float(tail)
    except ValueError:
        strength = math.nan
    if not math.isfinite(strength):
        raise ValueError(f"{text!r}: expected FILE or FILE:strength, such as fox.safetensors:0.8")
    return Path(head), strength
