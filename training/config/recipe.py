"""YAML recipes and key=value overrides become dataclasses; every mistake is one line that names the key."""

from __future__ import annotations

import difflib
import os.path
import re
import types
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from reprlib import Repr
from typing import Literal

import yaml
from yaml.constructor import ConstructorError

from .elsewhere import explained

MAX_RECIPE = 2**20  # bytes; a larger file is something else
NUMBERS = {int: "a whole number", float: "a number"}
SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}  # as in YAML 1.1
PATHS = (
    "model.checkpoint",
    "model.lora",
    "model.vae",
    "model.text_encoder",
    "objective.teacher",
    "data.path",
    "data.folders.path",
    "data.cache",
    "run.folder",
    "resume",
)
OWN_KEYS = {  # what one command knows and the others don't
    "training.train": (
        "objective", "sampling", "resume", "resume_changed", "model.preset", "model.checkpoint", "model.patch_size",
        "model.depth", "model.num_heads", "model.vae", "model.text_encoder", "model.lora_rank",
    ),
    "training.autoencoder": (
        "loss", "model.latent_channels", "model.encoder_block_out_channels", "model.decoder_block_out_channels",
        "model.encoder_layers_per_block", "model.decoder_layers_per_block", "run.decoder_of",
    ),
    "training.language_model": (
        "model.intermediate_size", "model.num_hidden_layers", "model.num_attention_heads", "model.head_dim",
        "data.look_back", "data.replaced", "data.stray", "run.packed",
    ),
}  # fmt: skip
short = Repr()  # of values in messages, which may be endless
short.maxstring = short.maxother = 200
short.maxlevel = 2


class ConfigError(ValueError):
    """A recipe or override that cannot be used; the message is one line and names the key."""


class Plain(str):
    """A number, date or switch in a recipe, as it is written: for a text field, 007, 1.10 and yes are just that."""


class RecipeLoader(yaml.SafeLoader):
    """YAML that keeps plain values as they are written, and refuses a key that stands there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        keys = [key.value for key, _ in pairs if isinstance(key, yaml.ScalarNode)]
        if twice := [key for key, count in Counter(keys).items() if count > 1]:
            raise ConstructorError(problem=f"the key {twice[0]} is there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


for tag in ("bool", "int", "float", "timestamp"):
    RecipeLoader.add_constructor(f"tag:yaml.org,2002:{tag}", lambda loader, node: Plain(loader.construct_scalar(node)))


def read_recipe(kind: type, path: str | Path, overrides: Sequence[str] = ()) -> object:
    """A dataclass of sections, of type `kind`, from a YAML recipe and overrides; only types are checked.

    Raises:
        ConfigError: no such file, no YAML, an unknown key or a wrong type.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_RECIPE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > MAX_RECIPE:
        raise ConfigError(f"{path}: is longer than {MAX_RECIPE} bytes, expected a recipe (.yaml)")
    try:
        tree = parse(content) or {}
    except ValueError as error:
        raise ConfigError(f"{path}: is no YAML ({error})") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds a {type(tree).__name__}, expected sections such as model: and data:")
    for override in overrides:
        apply_override(kind, tree, override)
    check_command(kind, tree)
    return build(kind, tree, "")


def parse(content: str | bytes) -> object:
    """The value of a YAML text; ValueError with one line for anything else."""
    try:
        return yaml.load(content, RecipeLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        tabs = ", expected spaces" if "'\\t'" in str(error.problem) else ""
        raise ValueError(f"{line}{error.problem}{tabs}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def apply_override(kind: type, tree: dict, override: str) -> None:
    """Set one "section.key=value" in the tree of a `kind`: a text is taken as it is written, other values are YAML."""
    key, equals, text = override.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not last:
        raise ConfigError(f"{override!r}: expected key=value, such as optimizer.lr=1e-3")
    for section in sections:
        if tree.get(section) is None:
            tree[section] = {}
        tree = tree[section]
        kind = field_type(kind, section)
        if not isinstance(tree, dict):
            raise ConfigError(f"{key}: {section} is a value, not a section")
    wanted = field_type(kind, last)
    if wanted is str or typing.get_origin(wanted) is Literal:
        tree[last] = text
        return
    try:
        tree[last] = parse(text)
    except ValueError as error:
        raise ConfigError(f"{key}={short.repr(text)}: is no YAML ({error})") from None


def check_command(kind: type, tree: Mapping) -> None:
    """Raise ConfigError for a recipe of another command."""
    within = [f"{section}.{key}" for section, keys in tree.items() if isinstance(keys, Mapping) for key in keys]
    for command, keys in OWN_KEYS.items():
        if found := next((key for key in [*tree, *within] if key in keys and not has_key(kind, key)), None):
            raise ConfigError(
                f"{found}: unknown key, it belongs to recipes of python -m {command}: start that command instead"
            )


def has_key(kind: object, key: str) -> bool:
    """Whether a dataclass has a "section" or "section.key"."""
    for name in key.split("."):
        kind = field_type(kind, name)
    return kind is not None


def field_type(kind: object, name: str) -> object:
    """The type of a dataclass's field; None where there is none."""
    return typing.get_type_hints(kind).get(name) if is_dataclass(kind) else None


def build(kind: type, tree: object, place: str) -> object:
    """A dataclass of its fields' values; keys that are missing keep their defaults."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{place}={short.repr(tree)}: expected a section with keys")
    hints = typing.get_type_hints(kind)
    for key in tree:
        if key not in hints:
            if reason := explained(str(key)):
                raise ConfigError(f"{join(place, key)}: {reason}")
            near = difflib.get_close_matches(str(key), hints, 1)
            hint = f"did you mean {join(place, near[0])}?" if near else f"expected one of {', '.join(hints)}"
            raise ConfigError(f"{join(place, key)}: unknown key, {hint}")
    values = {key: convert(hints[key], value, join(place, key)) for key, value in tree.items()}
    try:
        return kind(**values)
    except ValueError as error:  # of a section that checks its own values
        raise ConfigError(f"{place}: {error}") from None


def join(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def convert(kind: object, value: object, place: str) -> object:
    """`value` as the type of a field."""
    if is_dataclass(kind):
        return build(kind, {} if value is None else value, place)
    if isinstance(kind, types.UnionType):  # X | None
        return None if value is None else convert(kind.__args__[0], value, place)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise ConfigError(f"{place}={short.repr(value)}: expected one of {', '.join(typing.get_args(kind))}")
        return str(value)
    if isinstance(kind, types.GenericAlias):
        if not isinstance(value, list):
            raise ConfigError(f"{place}={short.repr(value)}: expected a list, such as [a, b]")
        return [convert(kind.__args__[0], item, f"{place}[{i}]") for i, item in enumerate(value)]
    if kind is str:
        return as_text(value, place)
    if kind is bool:
        return as_switch(value, place)
    return as_number(kind, value, place)


def as_text(value: object, place: str) -> str:
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{place}={short.repr(value)}: expected a text")
    text = str(value or "")
    return os.path.expanduser(text) if re.sub(r"\[\d+\]", "", place) in PATHS else text


def as_switch(value: object, place: str) -> bool:
    if not isinstance(value, Plain) or value.lower() not in SWITCHES:
        raise ConfigError(f"{place}={short.repr(value)}: expected true or false")
    return SWITCHES[value.lower()]


def as_number(kind: type, value: object, place: str) -> float:
    """A number in decimal notation; 1e-4, which YAML takes for text, passes, and 010 is ten."""
    try:
        if isinstance(value, Plain) or kind is float and isinstance(value, str):
            return kind(value.lower().replace(".inf", "inf").replace(".nan", "nan"))  # YAML's and Python's names
    except ValueError:
        pass
    shown = SWITCHES.get(value.lower(), value) if isinstance(value, Plain) else short.repr(value)
    raise ConfigError(f"{place}={shown}: expected {NUMBERS[kind]}")
