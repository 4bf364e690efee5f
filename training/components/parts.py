"""Builds the parts of a run from a config: latent space, data and network, checked against each other."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from tim_model import OFFICIAL, TiM, TiMParams
from tim_model.checkpoint import Checkpoint, metadata_json, read_checkpoint
from tim_model.loading import default_dtype
from tim_model.network.latent_space import LATENT_SPACES, LatentSpace, latent_space
from tim_model.sampling.sizes import nearest_multiple
from tim_model.text.files import read_text_encoder_config

from ..config.load import ConfigError
from ..config.schema import Config, ModelConfig
from ..data.batches import Batches
from ..data.dataset import Dataset
from ..data.encoded import Latents, TextFeatures
from ..data.labels import KnownClasses
from ..data.open_dataset import open_dataset
from ..data.tensor_cache import TensorCache
from ..objectives.repa import feature_width
from ..optim.lora import configured_lora
from ..processes.precision import training_device
from ..processes.share import ALONE, Share
from .condition import check_condition
from .teacher import read_teacher
from .vae_space import vae_space


@dataclass(frozen=True)
class Parts:
    """The parts of a run, before weights are moved to a device."""

    params: TiMParams
    space: LatentSpace
    dataset: Dataset
    data: Batches
    checkpoint: Checkpoint | None  # initial weights of the run
    teacher: Checkpoint | None = None  # frozen weights that an objective learns from

    @property
    def class_names(self) -> list[str]:
        """Class names in the order of the labels; [] if unknown."""
        return self.dataset.class_names

    def sources(self) -> dict[str, str]:
        """Everything that samples and features depend on, by setting; must be equal in all processes."""
        latents, text = self.data.latents, self.data.text
        return {
            "data.path": f"{len(self.dataset.samples)} samples {self.dataset.digest()[:12]}",
            **({"model.vae": latents.model_hash[:12]} if latents.vae else {}),
            **({"model.text_encoder": text.model_hash[:12]} if text else {}),
        }

    def metadata(self, config: Config) -> dict[str, str]:
        """Metadata of files of weights on their origin."""
        known = LATENT_SPACES.get(self.space.channels) == self.space
        space = {"ratio": self.space.ratio, "scaling_factor": self.space.scaling_factor}
        return {
            "objective": config.objective.name,
            "transport": config.objective.transport,
            "data_hash": self.dataset.digest(),
            "resolution": str(nearest_multiple(config.data.resolution, self.space.ratio * self.params.patch_size)),
            **({} if known else {"latent_space": json.dumps(space)}),
            **({"class_names": json.dumps(self.class_names)} if self.class_names else {}),
        }


def build_parts(config: Config, write: bool = True, state: dict | None = None, share: Share = ALONE) -> Parts:
    """Read and check all parts of a run.

    Args:
        write: whether to store the checks of files on disk.
        state: the state to resume from, whose classes keep their numbers.
        share: among the processes with the same `data.cache`.

    Raises:
        ValueError: missing or contradictory input, in one line.
    """
    checkpoint = read_checkpoint(config.model.checkpoint) if config.model.checkpoint else None
    vae = vae_space(config.model.vae) if config.model.vae else None
    patch_size = base_params(config, checkpoint).patch_size
    known = known_classes(checkpoint, state)
    dataset = open_dataset(config.data, vae.ratio if vae else 1, patch_size, write, known, share)
    check_condition(config, dataset)
    space = data_space(dataset, vae, checkpoint)
    params = network_params(config, checkpoint, dataset, space)
    parameter_counts(params, config.model)  # raises an error for a LoRA that cannot be trained
    cache = TensorCache(Path(config.data.cache))
    text = TextFeatures(config.model.text_encoder, cache) if params.context_dim else None
    dtype = default_dtype(training_device(config.run.cpu))  # known before there is a device: it is part of the keys
    latents = Latents(dataset, "" if dataset.latent else config.model.vae, cache, dtype)
    data = Batches(config, dataset, latents, text, params.num_classes)
    teacher = read_teacher(config, params) if config.objective.teacher else None
    return Parts(params, space, dataset, data, checkpoint, teacher)


def known_classes(checkpoint: Checkpoint | None, state: dict | None) -> KnownClasses | None:
    """The classes of the initial weights: those of the state, else of the checkpoint."""
    if state is not None:
        source, params, fixed = f"the state of step {state['step']}", TiMParams(**state["params"]), True
        names = metadata_json(state["metadata"], "class_names", [])
    elif checkpoint is not None:
        source, params, fixed = "the checkpoint", checkpoint.params, False
        names = checkpoint.class_names
    if (state is None and checkpoint is None) or params.num_classes is None:
        return None
    return KnownClasses(source, params.num_classes, names[: params.num_classes], fixed)


def data_space(dataset: Dataset, vae: LatentSpace | None, checkpoint: Checkpoint | None) -> LatentSpace:
    """The latent space of a dataset: that of ready-made latents, of a VAE, or pixels."""
    if not dataset.latent:
        return vae or LATENT_SPACES[3]
    if vae and vae.channels != dataset.channels:
        raise ConfigError(f"model.vae: makes {vae.channels} channels, the latents in data.path have {dataset.channels}")
    return vae or (checkpoint.latent_space if checkpoint else latent_space(dataset.channels))


def base_params(config: Config, checkpoint: Checkpoint | None) -> TiMParams:
    """The architecture as stated in the config; channels and conditioning are set from the data later."""
    if checkpoint is not None:
        return checkpoint.params
    if config.model.preset:
        return OFFICIAL[config.model.preset]
    m = config.model
    return TiMParams(
        in_channels=3, patch_size=m.patch_size, hidden_size=m.hidden_size, depth=m.depth, num_heads=m.num_heads,
        mlp_hidden=8 * m.hidden_size // 3, adaln_hidden=m.hidden_size // 3, num_classes=1,
    )  # fmt: skip


def network_params(config: Config, checkpoint: Checkpoint | None, dataset: Dataset, space: LatentSpace) -> TiMParams:
    """The architecture for a dataset; ConfigError if they do not fit."""
    base = base_params(config, checkpoint).without_projector()
    fixed = checkpoint is not None or bool(config.model.preset)
    if fixed and base.in_channels != space.channels:
        wanted = "a VAE that makes them, such as the published one, in model.vae" if space.ratio == 1 else "as many"
        raise ConfigError(f"the model has {base.in_channels} channels, the data {space.channels}: expected {wanted}")
    if fixed and (base.context_dim is not None) != dataset.captioned:
        wanted, found = ("captions", "classes") if base.context_dim else ("classes", "captions")
        what = f"the model is for {wanted}, the data has {found} ({dataset.reading})"
        raise ConfigError(f"{config.data.place}: {what}")
    condition = {"context_dim": None, "num_classes": None}
    if dataset.captioned:
        condition["context_dim"] = text_width(config, dataset)
    else:
        condition["num_classes"] = dataset.num_classes
    if checkpoint is not None:
        condition = checkpoint_condition(base, condition)
    return replace(base, in_channels=space.channels, **condition, **projector(config), encoder_depth=None)


def text_width(config: Config, dataset: Dataset) -> int:
    """The width of the text encoder's features, from its config."""
    if not config.model.text_encoder:
        raise ConfigError(
            f"model.text_encoder: is not set, but the data has captions ({dataset.reading}); expected a folder of "
            "google/gemma-3-1b-it or a packed file"
        )
    return read_text_encoder_config(config.model.text_encoder)["hidden_size"]


def checkpoint_condition(params: TiMParams, found: dict[str, int | None]) -> dict[str, int | None]:
    """A checkpoint keeps its own conditioning if that of the data fits."""
    own = {"context_dim": params.context_dim, "num_classes": params.num_classes}
    if found["context_dim"] != own["context_dim"]:
        raise ConfigError(
            f"model.text_encoder: has {found['context_dim']} features, the checkpoint expects {own['context_dim']}"
        )
    if (found["num_classes"] or 0) > (own["num_classes"] or 0):
        raise ConfigError(f"data.path: has {found['num_classes']} classes, the checkpoint knows {own['num_classes']}")
    return own


def projector(config: Config) -> dict[str, int]:
    """The settings of the REPA head, if it is trained."""
    if not config.objective.repa:
        return {}
    return {"z_dim": feature_width(config.objective.repa), "projector_dim": 2048}


def build_net(parts: Parts, matrix_dtype: torch.dtype = torch.float32) -> TiM:
    """The network on the CPU, with new weights, a function of the seed, or those of the checkpoint.

    The checkpoint's tensors move from `parts` into the network, so that only one copy exists.

    Args:
        matrix_dtype: of the weights of linear layers; all others are float32, as autocast computes with them.
    """
    weights = {} if parts.checkpoint is None else parts.checkpoint.state_dict
    net = TiM(parts.params, device="meta")
    # a REPA head that the file lacks is initialized; one that this run does not train is dropped
    if net.state_dict().keys() <= weights.keys():
        net.load_state_dict({name: weights[name] for name in net.state_dict()}, assign=True)
    else:
        net = TiM(parts.params)
        net.init_weights().load_state_dict(weights, strict=False)
    weights.clear()
    for module in net.modules():
        for name, value in module.named_parameters(recurse=False):
            is_matrix = isinstance(module, nn.Linear) and name == "weight"
            value.data = value.data.to(matrix_dtype if is_matrix else torch.float32, copy=True)
    return net.requires_grad_(True)


def frozen_dtype(config: Config, precision: str) -> torch.dtype:
    """The dtype of matrices frozen by LoRA: the one to which autocast would cast them in every pass."""
    if not config.model.trains_lora:
        return torch.float32
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]


def parameter_counts(params: TiMParams, model: ModelConfig) -> tuple[int, int]:
    """The number of trained parameters, and that of the network without LoRA and REPA head."""
    net = TiM(params, device="meta")
    total = sum(value.numel() for name, value in net.named_parameters() if not name.startswith("projector."))
    if model.trains_lora:
        configured_lora(net, model)
    return sum(value.numel() for value in net.parameters() if value.requires_grad), total


def describe(parts: Parts) -> str:
    """The size of the network in one line."""
    p = parts.params
    count = sum(value.numel() for value in TiM(p, device="meta").parameters())
    condition = f"text features of width {p.context_dim}" if p.context_dim else f"{p.num_classes} classes"
    return (
        f"model: {count / 1e6:.2f}M parameters, hidden {p.hidden_size}, depth {p.depth}, heads {p.num_heads}, "
        f"patch {p.patch_size}, {p.in_channels} channels at 1/{parts.space.ratio}, {condition}"
    )
