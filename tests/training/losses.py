"""The loss of an objective, by its settings."""

from __future__ import annotations

from tim_model.sampling.transport import get_transport
from training.config.schema import ObjectiveConfig
from training.objectives.loss import LossOutput
from training.objectives.objectives import make_objective
from training.objectives.sample import Network, Sample


def loss_of(network: Network, sample: Sample, ema: Network | None = None, **settings) -> LossOutput:
    """Guided where there is an `ema`; the other settings are those of `ObjectiveConfig`."""
    config = ObjectiveConfig(guided=ema is not None, **settings)
    return make_objective(config, ema)(network, get_transport(config.transport), sample)
