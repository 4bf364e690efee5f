"""The frozen network that an objective learns from."""

from __future__ import annotations

import torch

from tim_model import TiM, TiMParams
from tim_model.checkpoint import Checkpoint, read_checkpoint

from ..config.load import ConfigError
from ..config.schema import Config

INPUTS = ("in_channels", "context_dim", "num_classes")


def read_teacher(config: Config, params: TiMParams) -> Checkpoint:
    """The weights of `objective.teacher`.

    Raises:
        ConfigError: they are for other channels or another conditioning than the trained network.
    """
    teacher = read_checkpoint(config.objective.teacher)
    for name in INPUTS:
        own, expected = getattr(teacher.params, name), getattr(params, name)
        if own != expected:
            raise ConfigError(f"objective.teacher: has {name} {own}, expected {expected} as the trained network has")
    return teacher


def build_teacher(teacher: Checkpoint, device: torch.device) -> TiM:
    """The network of the weights on the device, frozen and in float32."""
    net = TiM(teacher.params, device="meta")
    net.load_state_dict(teacher.state_dict, assign=True)
    return net.to(device, torch.float32).requires_grad_(False).train(False)
