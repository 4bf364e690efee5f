"""Reads and writes checkpoints of TiM in the released layout. Names and shapes alone identify a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .files.errors import CheckpointError, abbreviated, metadata_json, prefix_errors
from .files.published import CHECKPOINTS
from .files.tensor_files import check_layout, check_values, read_state_dict, write_safetensors
from .network.latent_space import LATENT_SPACES, LatentSpace, default_size, latent_space
from .network.params import TiMParams, layout_name
from .network.tim import TiM


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: released names and shapes, checked against `params`, and the metadata of the file."""

    params: TiMParams
    state_dict: dict[str, Tensor]
    metadata: dict[str, str]

    @property
    def class_names(self) -> list[str]:
        """Names of the labels, from the metadata's "class_names"; empty where the file has none.

        Raises:
            CheckpointError: no JSON list of texts, or more of them than the network has classes.
        """
        names = metadata_json(self.metadata, "class_names", [])
        if not all(isinstance(name, str) for name in names) or len(names) > (self.params.num_classes or 0):
            raise CheckpointError(
                f'has metadata "class_names" {self.metadata["class_names"][:80]!r}, expected a JSON list of at most '
                f"{self.params.num_classes or 0} names"
            )
        return names

    @property
    def latent_space(self) -> LatentSpace:
        """The network's latent space; CheckpointError where neither channels nor metadata say which."""
        return latent_space(self.params.in_channels, self.metadata)

    @property
    def default_size(self) -> tuple[int, int]:
        """Native (width, height) in pixels; CheckpointError where the metadata's makes no sense."""
        return default_size(self.params, self.latent_space, self.metadata)

    @property
    def states_resolution(self) -> bool:
        """Whether the native size is the file's own statement of the largest area in its training."""
        return "resolution" in self.metadata


def read_checkpoint(path: str | os.PathLike, encoder_depth: int | None = None, values: bool = True) -> Checkpoint:
    """A complete and valid TiM checkpoint, or CheckpointError in one line.

    Args:
        path: .safetensors, or a pickled state dict (.bin, .pt) that is read without running any code, in the released
            layout; with or without `projector.*`, with or without a `model.diffusion_model.` or `module.` prefix.
        encoder_depth: blocks before the REPA head, which do not follow from shapes; default is the file's metadata,
            else the published choice for that depth.
        values: whether meta tensors, shapes without values, are refused.
    """
    with prefix_errors(path):
        if not Path(path).exists():
            raise CheckpointError(f"no such file, expected a TiM checkpoint; published in {CHECKPOINTS}")
    state_dict, metadata = read_state_dict(path)
    with prefix_errors(path):
        params = infer_params({name: tuple(value.shape) for name, value in state_dict.items()})
        config = metadata_json(metadata, "config", {})
        check_config(config, params)
        params = replace(params, encoder_depth=config.get("encoder_depth") if encoder_depth is None else encoder_depth)
        check_layout(state_dict, TiM(params, device="meta"))
        check_values(state_dict, allow_meta=not values)
        checkpoint = Checkpoint(params, state_dict, metadata)
        check_metadata(checkpoint)
    return checkpoint


def load_checkpoint(
    path: str | os.PathLike,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    encoder_depth: int | None = None,
) -> TiM:
    """The network in a TiM checkpoint, in eval mode and without gradients; see `read_checkpoint` for what is read.

    Args:
        device, dtype: where the weights go.

    Raises:
        CheckpointError: the file is anything else; the message is one line.
    """
    return build_net(read_checkpoint(path, encoder_depth), device, dtype)


def build_net(checkpoint: Checkpoint, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> TiM:
    """The network of a checkpoint, in eval mode and without gradients."""
    net = TiM(checkpoint.params, device="meta")
    weights = {name: value.to(device=device, dtype=dtype) for name, value in checkpoint.state_dict.items()}
    net.load_state_dict(weights, assign=True)
    return net.requires_grad_(False).train(False)


def save_checkpoint(
    net: TiM, path: str | os.PathLike, dtype: torch.dtype | None = None, metadata: Mapping[str, str] | None = None
) -> None:
    """Write the network as safetensors in the released layout, with its params as JSON in the metadata's "config".

    The file is written atomically.

    Args:
        dtype: of the file; default is that of the weights.
        metadata: further string entries for the file's metadata.
    """
    write_checkpoint(Checkpoint(net.params, net.state_dict(), dict(metadata or {})), path, dtype)


def write_checkpoint(checkpoint: Checkpoint, path: str | os.PathLike, dtype: torch.dtype | None = None) -> None:
    """Write a checkpoint as `save_checkpoint` does; by default every tensor keeps its dtype."""
    tensors = {
        name: weight.detach().to("cpu", dtype or weight.dtype).contiguous()
        for name, weight in checkpoint.state_dict.items()
    }
    config = json.dumps(checkpoint.params.to_dict())
    write_safetensors(tensors, path, {**checkpoint.metadata, "config": config})


def infer_params(shapes: Mapping[str, tuple[int, ...]]) -> TiMParams:
    """The architecture behind the names and shapes of a state dict in the released layout.

    Raises:
        CheckpointError: names that no TiM network has, or shapes that contradict each other.
    """

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        if name not in shapes and any("lora_" in found for found in shapes):
            raise CheckpointError("is not a TiM checkpoint but a LoRA: expected the model, LoRAs belong to --lora")
        if name not in shapes:
            raise CheckpointError(
                f"is not a TiM checkpoint: found {len(shapes)} tensors ({abbreviated(shapes)}), "
                f"expected {name} among them"
            )
        if len(shapes[name]) != ndim or 0 in shapes[name]:
            raise CheckpointError(f"{name} has shape {shapes[name]}, expected {ndim} dimensions, none of them 0")
        return shapes[name]

    hidden_size, in_channels, patch_size, _ = shape("x_embedder.proj.weight", 4)
    (head_dim,) = shape("blocks.0.attn.q_norm.weight", 1)
    if hidden_size % head_dim:
        raise CheckpointError(f"has heads of {head_dim} features in a width of {hidden_size}, expected a divisor")
    classes = "y_embedder.embedding_table.weight" in shapes
    projector = "projector.0.weight" in shapes
    return TiMParams(
        in_channels=in_channels,
        patch_size=patch_size,
        hidden_size=hidden_size,
        depth=len({name.split(".")[1] for name in shapes if name.startswith("blocks.")}),
        num_heads=hidden_size // head_dim,
        mlp_hidden=shape("blocks.0.mlp.fc1_g.weight", 2)[0],
        adaln_hidden=shape("blocks.0.adaLN_modulation.fc1_g.weight", 2)[0],
        context_dim=None if classes else shape("y_embedder.norm.weight", 1)[0],
        num_classes=shape("y_embedder.embedding_table.weight", 2)[0] - 1 if classes else None,
        z_dim=shape("projector.4.weight", 2)[0] if projector else None,
        projector_dim=shape("projector.0.weight", 2)[0] if projector else None,
    )


def check_config(config: Mapping[str, object], params: TiMParams) -> None:
    """Raise CheckpointError where the file's own description contradicts its shapes, as when its last block is lost."""
    inferred = params.without_projector().to_dict()  # a file may have lost its REPA head on purpose
    for name in inferred.keys() & config.keys() - {"encoder_depth"}:
        if config[name] != inferred[name]:
            raise CheckpointError(
                f"has {name}={inferred[name]} by its tensors, expected {config[name]} by its metadata"
            )


def check_metadata(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError for metadata that cannot be meant, here where the file is known."""
    stated = {"class_names", "latent_space", "resolution"} & checkpoint.metadata.keys()
    if "class_names" in stated:
        _ = checkpoint.class_names
    if "latent_space" in stated or ("resolution" in stated and checkpoint.params.in_channels in LATENT_SPACES):
        _ = checkpoint.default_size


def describe(path: str | os.PathLike) -> str:
    """What a checkpoint is, one fact a line; reads shapes of meta tensors too.

    Raises:
        CheckpointError: it is no whole TiM checkpoint.
    """
    checkpoint = read_checkpoint(path, values=False)
    p = checkpoint.params
    tensors = checkpoint.state_dict
    count = sum(value.numel() for name, value in tensors.items() if not name.startswith("projector."))
    condition = f"text features of width {p.context_dim}" if p.num_classes is None else f"{p.num_classes} classes"
    facts = {
        "file": path,
        "layout": layout_name(p),
        "condition": condition + (f": {', '.join(checkpoint.class_names)}" if checkpoint.class_names else ""),
        "parameters": f"{count / 1e6:.2f}M without the projector",
        "projector": f"{p.z_dim} features after block {p.encoder_depth}" if p.z_dim else "none",
        "sizes": f"hidden {p.hidden_size}, depth {p.depth}, heads {p.num_heads}, patch {p.patch_size}, "
        f"channels {p.in_channels}, mlp {p.mlp_hidden}, adaLN {p.adaln_hidden}",
        "dtype": ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in tensors.values()})),
    }
    return "\n".join(f"{name:<11} {fact}" for name, fact in facts.items())
