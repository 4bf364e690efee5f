"""The `Config` of a recipe, and what is checked of it; every mistake is one line that names the key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml

from tim_model import OFFICIAL

from .data_schema import DataConfig
from .recipe import PATHS, ConfigError, read_recipe
from .schema import LORA_GROUPS, Config, ModelConfig

POSITIVE = (
    "model.patch_size", "model.hidden_size", "model.depth", "model.num_heads", "data.batch_size",
    "data.resolution", "optimizer.lr", "optimizer.clip",
    "optimizer.eps", "optimizer.accumulation", "checkpoint.every", "checkpoint.keep_last", "run.steps", "run.log_every",
    "run.validate_every", "run.max_nonfinite", "run.timeout_minutes",
)  # fmt: skip
NOT_NEGATIVE = (
    "model.lora_rank", "data.bucket_step", "data.held_out", "data.workers", "optimizer.lr_batch",
    "data.shuffle_tags", "data.keep_tags", "optimizer.weight_decay", "optimizer.warmup", "sampling.every",
    "checkpoint.keep_every", "run.epochs", "run.max_minutes", "run.seed",
)  # fmt: skip
SHARES = ("data.dropout", "data.unmasked_weight", "ema.decay")
SEEDS = ("run.seed", "sampling.seed")
PLACES = {"data.cache": "a folder for latents and text features", "run.folder": "a folder for what the run writes"}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The run of a YAML recipe and overrides such as "optimizer.lr=1e-3".

    Raises:
        ConfigError: no such file, no YAML, an unknown key, a wrong type or a value out of range.
    """
    config = read_recipe(Config, path, overrides)
    check_values(config)
    return config


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
    check_captions(config.data)
    if not config.resume:
        raise ConfigError("resume: is empty, expected auto, none, or the path of a state or a run folder")
    if len(set(config.data.class_names)) < len(config.data.class_names):
        raise ConfigError(f"data.class_names={config.data.class_names}: expected each name once")
    if config.data.max_aspect < 1:
        raise ConfigError(f"data.max_aspect={config.data.max_aspect:g}: expected 1 or more")
    if config.model.preset and config.model.preset not in OFFICIAL:
        raise ConfigError(f"model.preset={config.model.preset!r}: expected one of {', '.join(OFFICIAL)}")
    check_lora(config.model)
    check_objective(config)
    if min(config.sampling.steps, default=0) < 1:
        raise ConfigError(f"sampling.steps={config.sampling.steps}: expected whole numbers from 1")
    if len(config.sampling.size) not in (0, 2):
        raise ConfigError(f"sampling.size={config.sampling.size}: expected [width, height]")
    if len(config.optimizer.betas) != 2 or not all(0 <= beta < 1 for beta in config.optimizer.betas):
        raise ConfigError(f"optimizer.betas={config.optimizer.betas}: expected two numbers from 0 to below 1")


def check_lora(model: ModelConfig) -> None:
    """Raise ConfigError for settings of a LoRA that cannot be trained, or that nothing reads."""
    if model.lora_alpha is not None and not model.lora_alpha > 0:
        raise ConfigError(f"model.lora_alpha={model.lora_alpha:g}: expected more than 0")
    if not 0 <= model.lora_dropout < 1:
        raise ConfigError(f"model.lora_dropout={model.lora_dropout:g}: expected a share from 0 to below 1")
    for target in model.lora_targets:
        if target not in LORA_GROUPS and not {".", "*"} & set(target):
            names = ", ".join(LORA_GROUPS)
            raise ConfigError(f"model.lora_targets: {target!r} is none of {names}, and no pattern as blocks.*.attn.qkv")
    for key in ("lora_targets", "lora_dropout"):
        if getattr(model, key) and not model.trains_lora:
            raise ConfigError(f"model.{key}: is set, but no LoRA is trained; expected model.lora_rank above 0 as well")


def check_finite(config: Config) -> None:
    """Raise ConfigError for a number that is NaN or infinite."""
    for section, values in asdict(config).items():
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{section}.{name}={value}: expected a finite number")


def check_places(config: Config) -> None:
    """Raise ConfigError for a folder that is not set or a file, or a run inside its own data."""
    for key, what in PLACES.items():
        if not get(config, key):
            raise ConfigError(f"{key}: is not set, expected {what}")
    if Path(config.data.cache).is_file():
        raise ConfigError(f"data.cache={config.data.cache}: is a file, expected a folder or a new name")
    run, folders = Path(config.run.folder).resolve(), check_folders(config.data)
    if data := next((data for data in folders if run.is_relative_to(data)), None):
        raise ConfigError(f"run.folder={run}: lies in data.path={data}, where its sample sheets would become data")


def check_folders(data: DataConfig) -> list[Path]:
    """The data folders; ConfigError if there is none, or if one holds another."""
    if data.path and data.folders:
        raise ConfigError(f"data.path={data.path}: beside data.folders, expected one of them; data.path= empties it")
    if not all(source.path for source in data.sources):
        key = "data.folders: path of one of them" if data.folders else "data.path"
        raise ConfigError(f"{key}: is not set, expected the folder with the training data")
    folders = [Path(source.path).resolve() for source in data.sources]
    for i, folder in enumerate(folders):
        if other := next((other for k, other in enumerate(folders) if k != i and folder.is_relative_to(other)), None):
            raise ConfigError(f"data.folders: {folder} lies in {other}, expected each image in one of them")
    if all(source.regularization for source in data.sources):
        raise ConfigError("data.folders: all are for regularization, expected one with the data to learn")
    return folders


def check_captions(data: DataConfig) -> None:
    """Raise ConfigError for settings of captions and masks that nothing reads."""
    for key, reader in {"keep_tags": "shuffle_tags", "unmasked_weight": "masks"}.items():
        if getattr(data, key) and not getattr(data, reader):
            raise ConfigError(f"data.{key}={getattr(data, key)}: nothing reads it, expected data.{reader} as well")


def check_objective(config: Config) -> None:
    """Raise ConfigError for an objective that goes with another transport, or without run.compile."""
    o = config.objective
    if o.name in ("split_meanflow", "modular_meanflow") and o.transport != "ot_fm":
        raise ConfigError(f"objective.transport={o.transport!r}: {o.name} knows ot_fm only")
    if config.run.compile and (o.name in ("meanflow", "modular_meanflow") or o.name == "tim" and o.derivative == "jvp"):
        raise ConfigError("run.compile=true: not with a derivative by jvp, expected objective.derivative=dde")
    if config.run.gradient_checkpointing and o.name == "modular_meanflow":
        raise ConfigError(
            "run.gradient_checkpointing=true: not with modular_meanflow, expected a larger optimizer.accumulation"
        )


def get(config: Config, key: str) -> object:
    """The value of "section.key"."""
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def common_settings(config: Config) -> dict[str, object]:
    """By "section.key", what all processes of a run must agree on: everything but places."""
    sections = {name: keys for name, keys in asdict(config).items() if isinstance(keys, dict)}
    settings = {f"{name}.{key}": value for name, keys in sections.items() for key, value in keys.items()}
    settings["data.folders"] = [{**folder, "path": ""} for folder in settings["data.folders"]]
    return {key: value for key, value in settings.items() if key not in PATHS}


def to_yaml(config: Config) -> str:
    """The resolved run as a recipe."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)
