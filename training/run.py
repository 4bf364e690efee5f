"""One training run: its position, its loop and the states from which it goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from tim_model import TiM
from tim_model.files import CheckpointError

from .command import INTERRUPTED
from .config import ConfigError, common_settings, to_yaml
from .data import Batch
from .engine import Engine
from .learner import Learner
from .lock import RunLock
from .origin import held_out_digests, origin
from .preflight import check_start
from .reporter import Reporter
from .resume import check_state, state_to_resume
from .sections import Config
from .setup import build_parts
from .share import Share, check_same, share_of_folder, together
from .signals import StopSignals
from .state import States


class Run:
    """One run: its parts, its position and its loop.

    Raises:
        ValueError: anything that cannot be used, in one line, before a step is made.
    """

    def __init__(self, config: Config):
        self.config = config
        self.engine = Engine(config.run)
        self.folder = Path(config.run.folder)
        self.states = States(self.folder / "states", config.checkpoint.keep_last, config.checkpoint.keep_every)
        self.lock, self.stop = RunLock(self.folder), StopSignals()
        self.share = Share(self.engine.rank, self.engine.world)
        self.step, self.seconds, self.failures = 0, 0.0, 0
        self.numbers: dict[str, float] = {}  # of the last step, where it is one that is logged
        self.stopped = False
        try:
            with together():
                self.prepare()
        except BaseException:
            self.lock.release()
            raise

    def prepare(self) -> None:
        """All that comes before the first step, but for what is written into the run folder."""
        config = self.config
        if self.engine.is_main and self.folder.is_dir():
            self.lock.acquire()
        settings = {**common_settings(config), "precision": self.engine.precision}
        check_same(settings, "start all of them with the same recipe and overrides")
        state = state_to_resume(config, self.states, self.engine.is_main)
        place = f"put run.folder={self.folder} on a disk that all machines see, or copy the newest state to all of them"
        check_same({"step": state["step"] if state else 0}, place)
        cache = share_of_folder(Path(config.data.cache))
        self.parts = build_parts(config, state=state, share=cache)
        check_same(self.parts.sources(), "copy the same files to all machines, or put them on a disk that all see")
        self.origin = origin(config, self.parts)
        if state is not None:
            self.tell(check_state(state, self.origin, config, self.parts))
        check_start(config, self.parts, state)
        self.parts.data.encode(config.sampling.prompts, self.engine.device, cache)
        self.learner = Learner(config, self.parts, self.engine)
        if state is not None:
            self.load_state(state)
        self.reporter = Reporter(config, self.engine, self.parts, self.learner, self.stop)

    @property
    def net(self) -> TiM:
        """The network as trained, without the wrapper that joins the processes."""
        return self.learner.net

    def tell(self, lines: list[str]) -> None:
        for line in lines if self.engine.is_main else ():
            print(line)

    # ------------------------------------------------------------------ the loop

    def train(self) -> int:
        """Train to the last step; returns the exit status."""
        try:
            done = self.step > 0 and self.at_end()
            with together():
                if self.engine.is_main:
                    self.begin(done)
            self.stop.listen()
            if self.step > 0:
                self.reporter.catch_up(self.step, self.numbers, done)
            if not done:
                self.loop()
            return self.finish(done)
        finally:
            self.lock.release()

    def begin(self, done: bool) -> None:
        """Prepare the run folder."""
        self.states.folder.mkdir(parents=True, exist_ok=True)
        if not self.lock.held:
            self.lock.acquire()
            if self.states.steps():
                raise ConfigError(f"run.folder={self.folder}: another run has begun in it; choose another run.folder")
        self.states.set_aside(self.step)
        self.reporter.begin(self.step, self.numbers, done)

    def loop(self) -> None:
        """Step after step, until the last one, a stop or the end of the time."""
        mark = time.perf_counter()
        bar = tqdm(total=self.config.run.steps, initial=self.step, unit="step", disable=not self.engine.is_main)
        with bar:
            for batch in self.batches():
                self.advance(batch)
                bar.update()
                self.seconds, mark = self.seconds + time.perf_counter() - mark, time.perf_counter()
                self.report(bar)
                if self.at_end() or self.interrupted():
                    break

    def batches(self) -> Iterator[Batch]:
        """The batches of all steps to come; where a process cannot read one, the steps before it are saved."""
        start = self.step
        batches = self.parts.data.batches(start, self.config.run.steps, self.share)
        while True:
            batch, problem = None, None
            try:
                batch = next(batches, None)
            except (OSError, ValueError) as error:
                problem = error
            if self.engine.any(problem is not None):
                if self.step > start and self.learner.finite():
                    self.save()
                with together():
                    if problem is not None:
                        raise problem
            if batch is None:
                return
            yield batch

    def advance(self, batch: Batch) -> None:
        """One optimizer step; too many in a row without a finite gradient end the run."""
        start = time.perf_counter()
        norm, lr = self.learner.advance(batch, self.step, self.reporter.meter)
        self.step, self.numbers = self.step + 1, {}
        self.failures = 0 if math.isfinite(norm) else self.failures + 1
        if self.failures >= self.config.run.max_nonfinite:
            with together():
                if self.engine.is_main:
                    raise self.diverged()
        self.reporter.meter.end_step(norm, lr, time.perf_counter() - start)

    def report(self, bar: tqdm) -> None:
        """All that is due after a step, the state first: a kill meanwhile then costs no step."""
        end = self.at_end()
        self.numbers = self.reporter.numbers(self.step, self.seconds, end, bar)
        if end or self.interrupted() or self.step % self.config.checkpoint.every == 0 and self.learner.finite():
            self.save()
        self.reporter.report(self.step, self.numbers, end)

    def at_end(self) -> bool:
        """Whether all steps are made, or the time is up."""
        limit = self.config.run.max_minutes * 60
        return self.step >= self.config.run.steps or bool(limit) and self.engine.any(self.seconds >= limit)

    def interrupted(self) -> bool:
        """Whether a signal has stopped the run, in any of its processes."""
        self.stopped = self.stopped or self.engine.any(self.stop.received)
        return self.stopped

    def finish(self, done: bool) -> int:
        """Save the state and, where the run ends by its steps or its time, the weights; returns the exit status."""
        path = self.save()
        stopped = self.stopped and self.step < self.config.run.steps
        with together():
            if self.engine.is_main:
                self.reporter.close()
                if stopped:
                    print(f"stopped at step {self.step}; the same command goes on from {path}")
                else:
                    self.reporter.finish(path, self.step, self.seconds, done)
        self.learner.close()
        return INTERRUPTED if stopped else 0

    # ------------------------------------------------------------------ state

    def save(self) -> Path:
        """Write the state of this step, unless it is there, by the main process alone.

        Raises:
            CheckpointError: the weights are not finite, or the file cannot be written.
        """
        path = self.states.path(self.step)
        with together():
            if self.engine.is_main and not path.is_file():
                if not self.learner.finite():
                    raise self.diverged()
                self.states.save(self.state())
        return path

    def diverged(self) -> CheckpointError:
        """Why a run cannot go on; weights that are finite are kept, and so are all states before them."""
        if self.learner.finite():
            self.states.save(self.state(), prune=False)
        steps, what = self.states.steps(), "the weights are not finite"
        if self.failures:
            what = f"{self.failures} step{'s' * (self.failures > 1)} in a row without a finite gradient"
        good = f"the last good state is {self.states.path(steps[-1])}" if steps else "there is no state yet"
        back = f", or go back with resume={self.states.path(steps[-2])} run.folder=…" if steps[1:] else ""
        return CheckpointError(f"{what}, near step {self.step}: stopped; {good}; try a lower optimizer.lr{back}")

    def state(self) -> dict:
        """Everything that the rest of the run depends on, and what its weights' file says."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "failures": self.failures,
            "numbers": self.numbers,
            "origin": self.origin,
            "steps_per_epoch": self.parts.data.batches_per_epoch,
            "held_out": held_out_digests(self.parts),
            **self.learner.state(),
            "metadata": {**self.parts.metadata(self.config), "recipe": to_yaml(self.config)},
        }

    def load_state(self, state: dict) -> None:
        """Go on from a state of the same training."""
        self.tell(self.learner.load_state(state))
        self.step, self.seconds, self.failures = state["step"], state["seconds"], state["failures"]
        self.numbers = state.get("numbers", {})
        if self.failures >= self.config.run.max_nonfinite:  # these steps have ended the run once
            self.failures = 0
