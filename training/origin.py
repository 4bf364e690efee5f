"""What the weights of a run come from: a state records it, so that no run goes on as another one unawares."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import torch
import yaml
from torch import Tensor

from .cache import hash_model
from .sections import Config, ObjectiveConfig
from .setup import Parts
from .times import DISTRIBUTIONS

FILES = ("data.path", "model.checkpoint", "model.lora", "model.vae", "model.text_encoder")  # recorded by their content
SHAPES = ("resolution", "max_aspect", "square", "bucket_step")  # settings of data that the digest changes with
READ_BY = {"derivative": {"tim"}, "epsilon": {"tim"}, "cosine": {"tim"}, "power": {"meanflow"}}  # objectives
GUIDANCE = {"w_gt", "w_cond", "w_start", "w_end"}


def origin(config: Config, parts: Parts) -> dict[str, object]:
    """What a run trains on and towards, by the setting that says it; two runs of the same origin are one training."""
    latents, text, checkpoint = parts.data.latents, parts.data.text, parts.checkpoint
    return {
        "data.path": parts.dataset.digest(),
        "samples": len(parts.dataset.samples),
        "model.checkpoint": hash_weights(checkpoint.state_dict) if checkpoint else "",
        "model.lora": hash_model(Path(config.model.lora)) if config.model.lora else "",
        "model.vae": latents.model_hash if latents.vae else "",
        "model.text_encoder": text.model_hash if text else "",
        **{f"objective.{name}": value for name, value in trained_objective(config.objective).items()},
    }


def held_out_digests(parts: Parts) -> list[str]:
    """Of the samples that are not trained on."""
    return sorted(parts.dataset.samples[i].digest for i in parts.data.held_out)


def trained_objective(o: ObjectiveConfig) -> dict[str, object]:
    """The settings of an objective that change what is trained: those that it reads, defaults filled in."""
    values = asdict(o)
    distribution = DISTRIBUTIONS[o.transport]
    for name in ("P_mean", "P_std"):
        default = getattr(distribution, name)
        values[name] = None if default is None else default if values[name] is None else values[name]
    idle = {name for name, readers in READ_BY.items() if o.name not in readers} | {"batched"}
    idle |= set() if o.guided else GUIDANCE
    idle |= set() if o.repa else {"repa_weight"}
    idle |= {"epsilon"} if o.derivative != "dde" else set()
    return {name: value for name, value in values.items() if name not in idle}


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """Of names, types and values; where and in how many files they lie does not matter."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def recipe_of(state: Mapping[str, dict]) -> dict[str, dict]:
    """The sections of the recipe that a state was trained with, {} where it does not tell."""
    recipe = yaml.safe_load(state["metadata"].get("recipe", "")) or {}
    return {name: values for name, values in recipe.items() if isinstance(values, dict)}


def origin_of(state: Mapping[str, dict]) -> dict[str, object]:
    """What a state records of its origin; of one written before there was such a record, as much as it tells."""
    if "origin" in state:
        return state["origin"]
    known = {field.name for field in fields(ObjectiveConfig)}
    told = {name: value for name, value in recipe_of(state).get("objective", {}).items() if name in known}
    objective = trained_objective(ObjectiveConfig(**told)) if told else {}
    return {
        "data.path": state["metadata"]["data_hash"],
        **{f"objective.{name}": value for name, value in objective.items()},
    }


def differences(state: Mapping[str, dict], now: Mapping[str, object], config: Config) -> dict[str, str]:
    """By setting, what is not the same as in a state, in words; what the state does not tell is not compared."""
    before, old, new = origin_of(state), recipe_of(state), asdict(config)
    changed = {key: value for key, value in before.items() if key in now and now[key] != value}
    words = {key: f"{key}={shown(key, value, old)}, here {shown(key, now[key], new)}" for key, value in changed.items()}
    if "data.path" in changed and "data" in old:
        for name in SHAPES:
            told = old["data"].get(name, "not there")
            if told != new["data"][name]:
                words[f"data.{name}"] = f"data.{name}={told}, here {new['data'][name]}"
    return words


def shown(key: str, value: object, recipe: Mapping[str, dict]) -> str:
    """A value as messages have it: of files their place, too."""
    if key not in FILES:
        return str(value)
    section, name = key.split(".")
    place = recipe.get(section, {}).get(name)
    return f"{place or '?'} ({str(value)[:8]})" if value else "none"
