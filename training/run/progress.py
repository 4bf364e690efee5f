"""The progress of a run, and saving it in states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tim_model.files.tensor_files import CheckpointError

from ..components.parts import Parts
from ..config.load import to_yaml
from ..config.schema import Config
from ..processes.share import together
from ..states.origin import held_out_digests
from ..states.states import States
from .learner import Learner


@dataclass
class Progress:
    """The progress of a run.

    Args:
        step: number of completed steps.
        seconds: training time of these steps.
        failures: steps in a row, up to this one, without a finite gradient.
        numbers: logged values of the last step, {} if it is not logged.
    """

    step: int = 0
    seconds: float = 0.0
    failures: int = 0
    numbers: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, state: Mapping, max_nonfinite: int) -> Progress:
        """The progress in a state; failures that ended the run are not counted again."""
        failures = state["failures"] if state["failures"] < max_nonfinite else 0
        return cls(state["step"], state["seconds"], failures, state.get("numbers", {}))

    def count(self, norm: float) -> None:
        """The progress after one more step with that gradient norm."""
        self.step, self.numbers = self.step + 1, {}
        self.failures = 0 if math.isfinite(norm) else self.failures + 1


class StateSaver:
    """Writes the states of a run.

    Args:
        origin: what the run trains on, see `states.origin`.
    """

    def __init__(self, config: Config, states: States, parts: Parts, learner: Learner, origin: Mapping[str, object]):
        self.config, self.states, self.parts, self.learner, self.origin = config, states, parts, learner, origin

    def save(self, progress: Progress) -> Path:
        """Write the state of this step in the main process, unless it exists.

        Raises:
            CheckpointError: the weights are not finite, or the file cannot be written.
        """
        path = self.states.path(progress.step)
        with together():
            if self.learner.processes.is_main and not path.is_file():
                if not self.learner.finite():
                    raise self.diverged(progress)
                self.states.save(self.state(progress))
        return path

    def diverged(self, progress: Progress) -> CheckpointError:
        """The error that ends a run; states with finite weights are kept."""
        if self.learner.finite():
            self.states.save(self.state(progress), prune=False)
        steps, what = self.states.steps(), "the weights are not finite"
        if progress.failures:
            what = f"{progress.failures} step{'s' * (progress.failures > 1)} in a row without a finite gradient"
        good = f"the last good state is {self.states.path(steps[-1])}" if steps else "there is no state yet"
        back = f", or go back with resume={self.states.path(steps[-2])} run.folder=…" if steps[1:] else ""
        return CheckpointError(f"{what}, near step {progress.step}: stopped; {good}; try a lower optimizer.lr{back}")

    def state(self, progress: Progress) -> dict:
        """Everything that later steps depend on, and the metadata for the file of weights."""
        return {
            **asdict(progress),
            "origin": self.origin,
            "steps_per_epoch": self.parts.data.batches_per_epoch,
            "held_out": held_out_digests(self.parts),
            **self.learner.state(),
            "metadata": {**self.parts.metadata(self.config), "recipe": to_yaml(self.config)},
        }
