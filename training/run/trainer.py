"""A training run: preparation, loop and end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from tim_model import TiM

from ..components.parts import build_parts
from ..config.load import ConfigError, common_settings
from ..config.schema import Config
from ..data.batches import Batch
from ..processes.command import INTERRUPTED
from ..processes.lock import RunLock
from ..processes.processes import Processes
from ..processes.share import check_same, share_of_folder, together
from ..processes.signals import StopSignals
from ..states.origin import origin
from ..states.resume import check_state, state_to_resume
from ..states.states import States
from .learner import Learner
from .length import in_steps
from .preflight import check_start
from .progress import Progress, StateSaver
from .reporter import Reporter


class Trainer:
    """A run: its parts, its progress and its loop.

    Raises:
        ValueError: bad input, in one line, before the first step.
    """

    def __init__(self, config: Config):
        self.config = config
        self.processes = Processes(config.run)
        self.folder = Path(config.run.folder)
        self.states = States(self.folder / "states", config.checkpoint.keep_last, config.checkpoint.keep_every)
        self.lock, self.stop = RunLock(self.folder), StopSignals()
        self.progress = Progress()
        self.stopped = False
        try:
            with together():
                self.prepare()
        except BaseException:
            self.lock.release()
            raise

    def prepare(self) -> None:
        """Prepare everything for the first step without writing into the run folder."""
        config = self.config
        if self.processes.is_main and self.folder.is_dir():
            self.lock.acquire()
        settings = {**common_settings(config), "precision": self.processes.precision}
        check_same(settings, "start all of them with the same recipe and overrides")
        state = state_to_resume(config, self.states, self.processes.is_main)
        place = f"put run.folder={self.folder} on a disk that all machines see, or copy the newest state to all of them"
        check_same({"step": state["step"] if state else 0}, place)
        cache = share_of_folder(Path(config.data.cache))
        self.parts = build_parts(config, state=state, share=cache)
        config = self.config = in_steps(config, self.parts)
        check_same(self.parts.sources(), "copy the same files to all machines, or put them on a disk that all see")
        started_from = origin(config, self.parts)
        if state is not None:
            self.announce(check_state(state, started_from, config, self.parts))
        check_start(config, self.parts, state)
        self.parts.data.encode(config.sampling.prompts, self.processes.device, cache)
        self.learner = Learner(config, self.parts, self.processes)
        if state is not None:
            self.announce(self.learner.load_state(state))
            self.progress = Progress.of(state, config.run.max_nonfinite)
        self.saver = StateSaver(config, self.states, self.parts, self.learner, started_from)
        self.reporter = Reporter(config, self.processes, self.parts, self.learner, self.stop)

    @property
    def net(self) -> TiM:
        """The trained network without the DDP wrapper."""
        return self.learner.net

    def announce(self, lines: list[str]) -> None:
        """Print lines in the main process only."""
        for line in lines if self.processes.is_main else ():
            print(line)

    # ------------------------------------------------------------------ the loop

    def train(self) -> int:
        """Train to the last step; returns the exit status."""
        try:
            done = self.progress.step > 0 and self.at_end()
            with together():
                if self.processes.is_main:
                    self.begin(done)
            self.stop.install()
            if self.progress.step > 0:
                self.reporter.catch_up(self.progress.step, self.progress.numbers, done)
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
        self.states.set_aside(self.progress.step)
        self.reporter.begin(self.progress.step, self.progress.numbers, done)

    def loop(self) -> None:
        """Run steps until the last one, a signal or the time limit."""
        mark = time.perf_counter()
        bar = tqdm(
            total=self.config.run.steps, initial=self.progress.step, unit="step", disable=not self.processes.is_main
        )
        with bar:
            for batch in self.batches():
                self.advance(batch)
                bar.update()
                self.progress.seconds, mark = self.progress.seconds + time.perf_counter() - mark, time.perf_counter()
                self.report(bar)
                if self.at_end() or self.interrupted():
                    break

    def batches(self) -> Iterator[Batch]:
        """The batches of all remaining steps; if a process cannot read one, the earlier steps are saved."""
        start = self.progress.step
        batches = self.parts.data.batches(start, self.config.run.steps, self.processes.share)
        while True:
            batch, problem = None, None
            try:
                batch = next(batches, None)
            except (OSError, ValueError) as error:
                problem = error
            if self.processes.any(problem is not None):
                if self.progress.step > start and self.learner.finite():
                    self.saver.save(self.progress)
                with together():
                    if problem is not None:
                        raise problem
            if batch is None:
                return
            yield batch

    def advance(self, batch: Batch) -> None:
        """One optimizer step; too many consecutive steps without a finite gradient end the run."""
        start = time.perf_counter()
        norm, lr = self.learner.advance(batch, self.progress.step, self.reporter.meter)
        self.progress.count(norm)
        if self.progress.failures >= self.config.run.max_nonfinite:
            with together():
                if self.processes.is_main:
                    raise self.saver.diverged(self.progress)
        self.reporter.meter.end_step(norm, lr, time.perf_counter() - start)

    def report(self, bar: tqdm) -> None:
        """Everything due after a step; the state first, so that a kill during reports loses no step."""
        end = self.at_end()
        self.progress.numbers = self.reporter.numbers(self.progress.step, self.progress.seconds, end, bar)
        if (
            end
            or self.interrupted()
            or self.progress.step % self.config.checkpoint.every == 0
            and self.learner.finite()
        ):
            self.saver.save(self.progress)
        self.reporter.report(self.progress.step, self.progress.numbers, end)

    def at_end(self) -> bool:
        """Whether all steps are done, or the time limit is reached."""
        limit = self.config.run.max_minutes * 60
        return (
            self.progress.step >= self.config.run.steps
            or bool(limit)
            and self.processes.any(self.progress.seconds >= limit)
        )

    def interrupted(self) -> bool:
        """Whether a signal has stopped the run, in any of its processes."""
        self.stopped = self.stopped or self.processes.any(self.stop.received)
        return self.stopped

    def finish(self, done: bool) -> int:
        """Save the state and, unless a signal stopped the run, the weights; returns the exit status."""
        path = self.saver.save(self.progress)
        stopped = self.stopped and self.progress.step < self.config.run.steps
        with together():
            if self.processes.is_main:
                self.reporter.close()
                if stopped:
                    print(f"stopped at step {self.progress.step}; the same command goes on from {path}")
                else:
                    self.reporter.finish(path, self.progress.step, self.progress.seconds, done)
        self.learner.close()
        return INTERRUPTED if stopped else 0
