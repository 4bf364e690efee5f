"""YAML recipes and key=value overrides become a `Config`; every mistake is one line that names the key."""

from __future__ import annotations

import difflib
import math
import os.path
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Literal

import yaml

from tim_model import OFFICIAL

from .objectives import ObjectiveSettings
from .sections import Config, ObjectiveConfig
from .times import TimeSettings


class ConfigError(ValueError):
    """A recipe or override that cannot be used; the message is one line and names the key."""


POSITIVE = (
    "model.patch_size", "model.hidden_size", "model.depth", "model.num_heads", "model.lora_alpha", "data.batch_size",
    "data.resolution", "optimizer.lr", "optimizer.clip",
    "optimizer.eps", "optimizer.accumulation", "checkpoint.every", "checkpoint.keep_last", "run.steps", "run.log_every",
    "run.validate_every", "run.max_nonfinite",
)  # fmt: skip
NOT_NEGATIVE = (
    "model.lora_rank", "data.held_out", "data.workers", "optimizer.lr_batch", "optimizer.weight_decay",
    "optimizer.warmup", "sampling.every", "checkpoint.keep_every", "run.max_minutes", "run.seed",
)  # fmt: skip
SHARES = ("data.dropout", "ema.decay")
SEEDS = ("run.seed", "sampling.seed")
PLACES = {
    "data.path": "the folder with the training data", "data.cache": "a folder for latents and text features",
    "run.folder": "a folder for what the run writes",
}  # fmt: skip
PATHS = ("model.checkpoint", "model.vae", "model.text_encoder", "data.path", "data.cache", "run.folder", "resume")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The run of a YAML recipe and overrides such as "optimizer.lr=1e-3".

    Raises:
        ConfigError: no such file, no YAML, an unknown key, a wrong type or a value out of range.
    """
    config = read_recipe(Config, path, overrides)
    check_values(config)
    return config


def read_recipe(kind: type, path: str | Path, overrides: Sequence[str] = ()) -> object:
    """A dataclass of sections, of type `kind`, from a YAML recipe and overrides; only types are checked.

    Raises:
        ConfigError: no such file, no YAML, an unknown key or a wrong type.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is no YAML ({' '.join(str(error).split())})") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds a {type(tree).__name__}, expected sections such as model: and data:")
    for override in overrides:
        apply_override(tree, override)
    return build(kind, tree, "")


def apply_override(tree: dict, override: str) -> None:
    """Set one "section.key=value" in a tree of sections; the value is YAML."""
    key, equals, text = override.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not last:
        raise ConfigError(f"{override!r}: expected key=value, such as optimizer.lr=1e-3")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{key}: {section} is a value, not a section")
    try:
        tree[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        tree[last] = text


def build(kind: type, tree: object, place: str) -> object:
    """A dataclass of its fields' values; keys that are missing keep their defaults."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{place}={tree!r}: expected a section with keys")
    hints = typing.get_type_hints(kind)
    for key in tree:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, 1)
            hint = f"did you mean {join(place, near[0])}?" if near else f"expected one of {', '.join(hints)}"
            raise ConfigError(f"{join(place, key)}: unknown key, {hint}")
    return kind(**{key: convert(hints[key], value, join(place, key)) for key, value in tree.items()})


def join(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def convert(kind: object, value: object, place: str) -> object:
    """`value` as the type of a field; whole numbers pass as floats, and so does 1e-4, which YAML takes for text."""
    if is_dataclass(kind):
        return build(kind, {} if value is None else value, place)
    if isinstance(kind, types.UnionType):  # X | None
        return None if value is None else convert(kind.__args__[0], value, place)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise ConfigError(f"{place}={value!r}: expected one of {', '.join(typing.get_args(kind))}")
        return value
    if isinstance(kind, types.GenericAlias):
        if not isinstance(value, list):
            raise ConfigError(f"{place}={value!r}: expected a list, such as [a, b]")
        return [convert(kind.__args__[0], item, f"{place}[{i}]") for i, item in enumerate(value)]
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if kind is str and (value is None or isinstance(value, (int, float)) and not isinstance(value, bool)):
        return "" if value is None else str(value)
    if place in PATHS and isinstance(value, str):
        return os.path.expanduser(value)
    if type(value) is not kind:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise ConfigError(f"{place}={value!r}: expected {names[kind]}")
    return value


def check_values(config: Config) -> None:
    """Raise ConfigError for values out of range or that contradict each other."""
    for key in POSITIVE:
        if not get(config, key) > 0:
            raise ConfigError(f"{key}={get(config, key)}: expected more than 0")
    for key in NOT_NEGATIVE:
        if not get(config, key) >= 0:
            raise ConfigError(f"{key}={get(config, key)}: expected 0 or more")
    for key in SHARES:
        if not 0 <= get(config, key) <= 1:
            raise ConfigError(f"{key}={get(config, key)}: expected a share from 0 to 1")
    for key in SEEDS:
        if not abs(get(config, key)) < 2**63:
            raise ConfigError(f"{key}={get(config, key)}: expected a number of at most 63 bits")
    check_finite(config)
    check_places(config)
    if len(set(config.data.class_names)) < len(config.data.class_names):
        raise ConfigError(f"data.class_names={config.data.class_names}: expected each name once")
    if config.data.max_aspect < 1:
        raise ConfigError(f"data.max_aspect={config.data.max_aspect:g}: expected 1 or more")
    if config.model.preset and config.model.preset not in OFFICIAL:
        raise ConfigError(f"model.preset={config.model.preset!r}: expected one of {', '.join(OFFICIAL)}")
    check_objective(config)
    if min(config.sampling.steps, default=0) < 1:
        raise ConfigError(f"sampling.steps={config.sampling.steps}: expected whole numbers from 1")
    if len(config.sampling.size) not in (0, 2):
        raise ConfigError(f"sampling.size={config.sampling.size}: expected [width, height]")
    if len(config.optimizer.betas) != 2 or not all(0 <= beta < 1 for beta in config.optimizer.betas):
        raise ConfigError(f"optimizer.betas={config.optimizer.betas}: expected two numbers from 0 to below 1")


def check_finite(config: Config) -> None:
    """Raise ConfigError for a number that is NaN or infinite."""
    for section, values in asdict(config).items():
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{section}.{name}={value}: expected a finite number")


def check_places(config: Config) -> None:
    """Raise ConfigError for a folder that is not set, or a run inside its own data."""
    for key, what in PLACES.items():
        if not get(config, key):
            raise ConfigError(f"{key}: is not set, expected {what}")
    data, folder = (Path(name).resolve() for name in (config.data.path, config.run.folder))
    if folder.is_relative_to(data):
        raise ConfigError(f"run.folder={folder}: lies in data.path={data}, where its sample sheets would become data")


def check_objective(config: Config) -> None:
    """Raise ConfigError for an objective that cannot be trained."""
    o = config.objective
    try:
        objective_settings(o), time_settings(o)
    except ValueError as error:
        raise ConfigError(f"objective: {error}") from None
    if o.name == "split_meanflow" and o.transport != "ot_fm":
        raise ConfigError(f"objective.transport={o.transport!r}: split_meanflow knows ot_fm only")
    if config.run.compile and (o.name == "meanflow" or o.name == "tim" and o.derivative == "jvp"):
        raise ConfigError("run.compile=true: not with a derivative by jvp, expected objective.derivative=dde")


def objective_settings(o: ObjectiveConfig) -> ObjectiveSettings:
    return ObjectiveSettings(o.transport, o.derivative, o.epsilon, o.batched, o.cosine, o.power)


def time_settings(o: ObjectiveConfig) -> TimeSettings:
    return TimeSettings(o.transport, o.P_mean, o.P_std, o.diffusion_ratio, o.consistency_ratio, o.shift_base)


def get(config: Config, key: str) -> object:
    """The value of "section.key"."""
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def to_yaml(config: Config) -> str:
    """The resolved run as a recipe."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)
