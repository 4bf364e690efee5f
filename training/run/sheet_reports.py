"""The sample sheets of a run: when one is due, and how all processes generate it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..components.parts import Parts
from ..config.schema import Config
from ..processes.processes import Processes
from ..processes.signals import StopSignals
from .learner import Learner
from .sample_sheet import Drawn, draw_sheet, make_sheet, write_sheet


class SheetReports:
    """Generates and writes the sample sheets of a run.

    Raises:
        ValueError: the configured sample sheet is not possible.
    """

    def __init__(self, config: Config, processes: Processes, parts: Parts, learner: Learner, stop: StopSignals):
        self.every, self.processes, self.learner, self.stop = config.sampling.every, processes, learner, stop
        self.folder = Path(config.run.folder) / "samples"
        self.sheet = make_sheet(parts, config)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.png"

    def due(self, step: int, end: bool) -> bool:
        return self.sheet is not None and (step % self.every == 0 or end)

    def missing(self, step: int, end: bool) -> bool:
        return self.due(step, end) and not self.path(step).exists()

    def draw(self, step: int) -> tuple[bool, Image.Image | None]:
        """Generate a sheet in shares, and write it in the main process.

        Returns whether a signal stopped it, and the image; None in processes that wrote none.
        """
        parts = self.processes.share.gather(self.stop.unless(self.own_part))
        if None in parts:
            return True, None
        return False, write_sheet(self.sheet, parts, self.path(step)) if self.processes.is_main else None

    def own_part(self) -> Drawn:
        """Generate this process's share of a sheet."""
        with self.learner.sampling():
            return draw_sheet(self.sheet, self.learner.ema.net, self.processes.device, self.processes.share)
