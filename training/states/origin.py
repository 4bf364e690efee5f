"""The origin of a run's weights, recorded in states, so that a resumed run with other data is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import torch
import yaml
from torch import Tensor

from tim_model.sampling.transport import get_transport

from ..components.parts import Parts
from ..config.schema import Config, ObjectiveConfig
from ..data.tensor_cache import hash_model

FILES = (  # recorded by content
    "data.path", "model.checkpoint", "model.lora", "model.vae", "model.text_encoder", "objective.teacher",
)  # fmt: skip
SHAPES = ("resolution", "max_aspect", "square", "bucket_step")  # settings of data that change the digest
READ_BY = {
    "derivative": {"tim"}, "epsilon": {"tim"}, "cosine": {"tim"}, "power": {"meanflow"},
    "modulation": {"modular_meanflow"}, "modulation_warmup": {"modular_meanflow"}, "tangent": {"modular_meanflow"},
    "teacher": {"split_meanflow"},
}  # fmt: skip
GUIDANCE = {"w_gt", "w_cond", "w_start", "w_end"}


def origin(config: Config, parts: Parts) -> dict[str, object]:
    """Data, weights and objective of a run, by setting; two runs of the same origin are the same training."""
    latents, text, checkpoint = parts.data.latents, parts.data.text, parts.checkpoint
    return {
        "data.path": parts.dataset.digest(),
        "samples": len(parts.dataset.samples),
        "model.checkpoint": hash_weights(checkpoint.state_dict) if checkpoint else "",
        "model.lora": hash_model(Path(config.model.lora)) if config.model.lora else "",
        "model.vae": latents.model_hash if latents.vae else "",
        "model.text_encoder": text.model_hash if text else "",
        **{f"objective.{name}": value for name, value in trained_objective(config.objective).items()},
        **({"objective.teacher": hash_weights(parts.teacher.state_dict)} if parts.teacher else {}),
    }


def held_out_digests(parts: Parts) -> list[str]:
    """Digests of the held-out samples."""
    return sorted(parts.dataset.samples[i].digest for i in parts.data.held_out)


def trained_objective(o: ObjectiveConfig) -> dict[str, object]:
    """The settings that an objective reads, with defaults filled in."""
    values = asdict(o)
    path = get_transport(o.transport)
    for name in ("P_mean", "P_std"):
        default = getattr(path, name)
        values[name] = None if default is None else default if values[name] is None else values[name]
    idle = {name for name, readers in READ_BY.items() if o.name not in readers} | {"batched"}
    idle |= set() if o.guided else GUIDANCE
    idle |= set() if o.teacher else {"teacher_cfg"}
    idle |= set() if o.repa else {"repa_weight"}
    idle |= {"epsilon"} if o.derivative != "dde" else set()
    return {name: value for name, value in values.items() if name not in idle}


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """A hash of names, types and values, independent of paths and the number of files."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def recipe_of(state: Mapping[str, dict]) -> dict[str, dict]:
    """The sections of a state's recipe, {} if it has none."""
    recipe = yaml.safe_load(state["metadata"].get("recipe", "")) or {}
    return {name: values for name, values in recipe.items() if isinstance(values, dict)}


def origin_of(state: Mapping[str, dict]) -> dict[str, object]:
    """The recorded origin of a state; for older states, as far as their recipe states it."""
    if "origin" in state:
        return state["origin"]
    known = {field.name for field in fields(ObjectiveConfig)}
    stated = {name: value for name, value in recipe_of(state).get("objective", {}).items() if name in known}
    objective = trained_objective(ObjectiveConfig(**stated)) if stated else {}
    return {
        "data.path": state["metadata"]["data_hash"],
        **{f"objective.{name}": value for name, value in objective.items()},
    }


def differences(state: Mapping[str, dict], now: Mapping[str, object], config: Config) -> dict[str, str]:
    """Messages by setting on differences from a state; what it does not record is not compared."""
    before, old, new = origin_of(state), recipe_of(state), asdict(config)
    changed = {key: value for key, value in before.items() if key in now and now[key] != value}
    words = {key: f"{key}={shown(key, value, old)}, here {shown(key, now[key], new)}" for key, value in changed.items()}
    if "data.path" in changed and "data" in old:
        for name in SHAPES:
            stated = old["data"].get(name, "not there")
            if stated != new["data"][name]:
                words[f"data.{name}"] = f"data.{name}={stated}, here {new['data'][name]}"
    return words


def shown(key: str, value: object, recipe: Mapping[str, dict]) -> str:
    """A value for messages; for files, with their path."""
    if key not in FILES:
        return str(value)
    section, name = key.split(".")
    place = recipe.get(section, {}).get(name)
    return f"{place or '?'} ({str(value)[:8]})" if value else "none"
