"""Solvers by name, with the settings that they have where nothing else is asked for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..noise import Seed, image_noise_stream
from .epd import EPDTable, epd, midpoint_table
from .multistep import a_flops, ab2
from .sada import sada
from .skipped_step import skipped_step
from .steps import Counted, Report, Velocity

EPD = "epd"
SOLVERS = {"ab2": ab2, "a_flops": a_flops, "sada": sada, "skipped_step": skipped_step, EPD: epd}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Solver:
    """A solver of velocities.

    Attributes:
        name: in `SOLVERS`.
        table: of "epd"; without one it is the midpoint rule.

    Raises:
        ValueError: an unknown name, or a table for a solver that has none.
    """

    name: str
    table: EPDTable | None = None

    def __post_init__(self):
        if self.name not in SOLVERS:
            raise ValueError(f"solver {self.name!r}: expected one of {', '.join(SOLVERS)}")
        if self.table is not None and self.name != EPD:
            raise ValueError(f"a table with solver {self.name}: leave it out, or take solver {EPD}")

    def run(
        self, velocity: Velocity, noise: Tensor, times: Sequence[float], seed: Seed = 0, report: Report | None = None
    ) -> Tensor:
        """The state at times[-1]; the seed is that of the noise a solver draws. Errors as for `euler`."""
        options = {"noise_fn": image_noise_stream(seed)} if self.name == "skipped_step" else {}
        if self.name == EPD:
            options["table"] = self.table or midpoint_table(times)
        counted = Counted(velocity)
        x = SOLVERS[self.name](counted, noise, times, report=report, **options)
        logger.info(f"{counted.calls} network calls in {len(times) - 1} steps")
        return x
