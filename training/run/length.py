"""The length of a run: in steps, or in epochs of its data."""

from __future__ import annotations

from dataclasses import replace

from ..components.parts import Parts
from ..config.schema import Config, RunConfig


def in_steps(config: Config, parts: Parts) -> Config:
    """The config with the steps that `run.epochs` makes of this data; unchanged where steps are counted."""
    if not config.run.epochs:
        return config
    steps = config.run.epochs * parts.data.batches_per_epoch
    return replace(config, run=replace(config.run, steps=steps))


def length_key(run: RunConfig) -> str:
    """The setting that states the length of a run."""
    return "run.epochs" if run.epochs else "run.steps"


def length(run: RunConfig) -> str:
    """The length of a run as its recipe states it."""
    return f"run.epochs={run.epochs}" if run.epochs else f"run.steps={run.steps}"


def describe_length(run: RunConfig, parts: Parts) -> str:
    """The length of a run in steps and epochs, in a line."""
    each = parts.data.batches_per_epoch
    counted = f"run.epochs={run.epochs} replaces run.steps" if run.epochs else "run.steps counts"
    return f"length: {run.steps} steps, {run.steps / each:.4g} epochs of {each} ({counted})"
