"""The network of an autoencoder run: new or from another run, and written in diffusers' layout."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tim_model import load_vae
from tim_model.files.tensor_files import CheckpointError, atomic, one_line, write_safetensors
from tim_model.vae.autoencoder import diffusers_class
from tim_model.vae.dcae import infer_dcae_config
from tim_model.vae.files import WEIGHTS

from ..config.load import ConfigError
from .config import ArchitectureConfig, AutoencoderConfig


def decoder_of(config: AutoencoderConfig) -> nn.Module:
    """The AutoencoderDC in `run.decoder_of`, float32, its encoder frozen.

    Raises:
        ConfigError: the file holds another architecture than the recipe's.
    """
    net, path = build_net(config.model), config.run.decoder_of
    found = load_vae(path, dtype=torch.float32).model.state_dict()
    if {name: value.shape for name, value in found.items()} != {n: v.shape for n, v in net.state_dict().items()}:
        raise ConfigError(f"run.decoder_of={path}: is of another architecture, expected that of model")
    net.load_state_dict(found)
    net.encoder.requires_grad_(False)
    return net


def build_net(config: ArchitectureConfig) -> nn.Module:
    """A new AutoencoderDC of diffusers.

    Raises:
        ConfigError: an invalid architecture, or one that cannot be inferred from its weights alone.
    """
    try:
        net = diffusers_class("AutoencoderDC")(**config.arguments())
        with torch.no_grad():
            net(torch.zeros(1, 3, config.ratio, config.ratio))  # fails for widths that do not fit
        infer_dcae_config({name: tuple(value.shape) for name, value in net.state_dict().items()})
        return net
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, CheckpointError) as error:
        raise ConfigError(f"model: makes no AutoencoderDC ({one_line(error)})") from None


def write_autoencoder(net: nn.Module, folder: Path) -> None:
    """Write an AutoencoderDC in diffusers' layout, each file atomically."""
    state_dict = {name: value.contiguous() for name, value in net.state_dict().items()}
    write_safetensors(state_dict, folder / WEIGHTS, {"format": "pt"})
    with atomic(folder / "config.json") as temporary:
        net.to_json_file(temporary)
