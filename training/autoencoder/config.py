"""The settings of `training.autoencoder`, section by section, with their defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from ..config.data_schema import DataConfig
from ..config.load import ConfigError, check_finite, check_places, read_recipe
from ..config.schema import CheckpointConfig, EMAConfig, OptimizerConfig
from .loss import LossConfig


@dataclass(frozen=True)
class ArchitectureConfig:
    """Arguments of diffusers' AutoencoderDC; all others are those of the published DC-AE.

    If the first stage has 0 layers, the outermost convolution does its resampling.
    """

    latent_channels: int = 16
    encoder_block_out_channels: list[int] = field(default_factory=lambda: [32, 32, 64, 128, 128])
    decoder_block_out_channels: list[int] = field(default_factory=lambda: [32, 32, 64, 128, 128])
    encoder_layers_per_block: list[int] = field(default_factory=lambda: [0, 1, 1, 1, 1])
    decoder_layers_per_block: list[int] = field(default_factory=lambda: [0, 1, 1, 1, 1])

    @property
    def ratio(self) -> int:
        """Pixels per latent cell and side."""
        return 2 ** (len(self.encoder_block_out_channels) - 1)

    def arguments(self) -> dict[str, object]:
        """All arguments: plain convolutions (ResBlock), so that any size fits and the receptive field is local."""
        no_attention = ((),) * len(self.encoder_block_out_channels)
        return {
            **asdict(self),
            "encoder_block_types": "ResBlock",
            "decoder_block_types": "ResBlock",
            "encoder_qkv_multiscales": no_attention,
            "decoder_qkv_multiscales": no_attention,
            "scaling_factor": 1.0,
        }


@dataclass(frozen=True)
class RunConfig:
    """Length, place and reports of the run."""

    folder: str = "runs/autoencoder"
    decoder_of: str = ""  # a VAE to start from: only its decoder is trained, so that latents do not change
    steps: int = 20000
    max_minutes: float = 0.0  # of training, over all sessions; 0 for no limit
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of autocast, see `RunConfig` in training/config/schema.py
    cpu: bool = False
    log_every: int = 100
    validate_every: int = 1000  # steps between PSNRs and sheets; needs data.held_out


@dataclass(frozen=True)
class AutoencoderConfig:
    """Everything that makes a run."""

    model: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: EMAConfig = field(default_factory=EMAConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    run: RunConfig = field(default_factory=RunConfig)


UNREAD = ("trigger_word", "caption_per_line", "shuffle_tags", "masks")  # settings of data for captions and losses


def load_autoencoder_config(path: Path, overrides: Sequence[str] = ()) -> AutoencoderConfig:
    """The run of a YAML recipe and overrides such as "optimizer.lr=1e-3".

    Raises:
        ConfigError: no such file, no YAML, an unknown key, a wrong type or a value out of range.
    """
    config = read_recipe(AutoencoderConfig, path, overrides)
    check_values(config)
    return config


def check_values(config: AutoencoderConfig) -> None:
    """Raise ConfigError for values that cannot be trained with."""
    check_finite(config)
    check_places(config)
    ratio = config.model.ratio
    if config.data.resolution < ratio or config.data.resolution % ratio:
        raise ConfigError(
            f"data.resolution={config.data.resolution}: expected a multiple of {ratio}, the model's ratio"
        )
    if config.optimizer.accumulation != 1:
        raise ConfigError(f"optimizer.accumulation={config.optimizer.accumulation}: expected 1 for an autoencoder")
    for name in UNREAD:
        if getattr(config.data, name):
            raise ConfigError(f"data.{name}: an autoencoder does not read it, expected it for training.train alone")
    if any(source.loss_weight != 1 for source in config.data.sources):
        raise ConfigError("data.folders: an autoencoder reads no loss_weight, expected it for training.train alone")
    positive = {
        "data.batch_size": config.data.batch_size, "optimizer.lr": config.optimizer.lr, "run.steps": config.run.steps,
        "checkpoint.every": config.checkpoint.every, "checkpoint.keep_last": config.checkpoint.keep_last,
        "run.log_every": config.run.log_every, "run.validate_every": config.run.validate_every,
    }  # fmt: skip
    for key, value in positive.items():
        if value <= 0:
            raise ConfigError(f"{key}={value}: expected more than 0")
