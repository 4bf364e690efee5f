"""Warnings for a run that `run.max_minutes` ends before its last step: a forecast, and a line at the end."""

from __future__ import annotations

import math
from collections import deque
from statistics import median_low

from ..config.schema import OptimizerConfig
from .learning_rate import learning_rate
from .optimizer import scaled_lr

WINDOW = 20.0  # seconds of steps, after the first one, before the first forecast
EVERY = 100  # steps between later forecasts, and steps that determine the pace
MARGIN = 1.05  # factor of advised settings over the barely sufficient ones


def last_step(step: int, seconds: float, pace: float, limit: float) -> int:
    """The last step of a run that has made `step` steps in `seconds`, needs `pace` seconds for each further step, and
    stops after the first step that reaches `limit` seconds."""
    return step + max(0, math.ceil((limit - seconds) / pace))


class Budget:
    """Compares the pace of a run with its time limit.

    Args:
        steps, max_minutes: of the run, over all sessions; 0 minutes for no limit.
        optimizer, batch_size: determine the learning rate.
        advice: another setting to change, such as "run.precision=auto"; "" for none.
        epoch: steps of an epoch, where run.epochs states the length; 0 where run.steps does.
    """

    def __init__(
        self,
        steps: int,
        max_minutes: float,
        optimizer: OptimizerConfig,
        batch_size: int,
        advice: str = "",
        epoch: int = 0,
    ):
        self.steps, self.minutes = steps, max_minutes
        self.optimizer, self.batch_size = optimizer, batch_size
        self.advice, self.epoch = advice, epoch
        self.mark: float | None = None
        self.durations: deque[float] = deque(maxlen=EVERY)
        self.watched, self.checked, self.warned = 0.0, False, False

    def warning(self, step: int, seconds: float) -> str:
        """One line, once, if the forecast shows that the run will be cut short; else "". Call it after every step.

        The first step of a session, which loads, allocates and compiles, is ignored. The pace is the median of the
        others, so that validation, another compilation and the like do not matter.

        Args:
            step: steps made, in all sessions.
            seconds: time trained, in all sessions.
        """
        if self.warned or not self.minutes:
            return ""
        if self.mark is not None:
            self.durations.append(seconds - self.mark)
            self.watched += seconds - self.mark
        self.mark = seconds
        if self.watched < WINDOW or len(self.durations) < 2 or self.checked and step % EVERY:
            return ""
        self.checked = True
        pace = median_low(self.durations)
        end = last_step(step, seconds, pace, self.minutes * 60)
        if end >= self.steps:
            return ""
        self.warned = True
        return (
            f"run.max_minutes={self.minutes:g} will end this run at about step {end} of {self.steps} ({pace:.2g} s a "
            f"step){self.rate(end)}: {self.remedies(step, seconds, pace, end)}"
        )

    def closing(self, step: int, seconds: float) -> str:
        """One line if the time limit ended the run before its last step; "" otherwise."""
        if not self.minutes or seconds < self.minutes * 60 or step >= self.steps:
            return ""
        minutes = math.ceil(MARGIN * seconds / 60 * self.steps / step)
        return (
            f"run.max_minutes={self.minutes:g} ended the run at step {step} of {self.steps}{self.rate(step)}; the same "
            f"command goes on with more, about run.max_minutes={minutes} for all steps"
        )

    def rate(self, step: int) -> str:
        """The learning rate at a step in words, if the schedule decays."""
        if self.optimizer.schedule == "constant":
            return ""
        now = learning_rate(self.optimizer, step, self.steps, self.batch_size)
        peak = scaled_lr(self.optimizer.lr, self.batch_size, self.optimizer.lr_batch or self.batch_size)
        return f", with the learning rate at {now:.2g} (peak {peak:.2g}), not fallen to 0"

    def remedies(self, step: int, seconds: float, pace: float, end: int) -> str:
        """The settings to change, in words."""
        minutes = math.ceil(MARGIN * (seconds + pace * (self.steps - step)) / 60)
        reached = max(1, int(end / MARGIN))
        shorter = f"run.epochs={max(1, reached // self.epoch)}" if self.epoch else f"run.steps={reached}"
        fall = "" if self.optimizer.schedule == "constant" else f"{shorter} lets it fall, "
        advice = f", or {self.advice}" if self.advice else ""
        return f"{fall}run.max_minutes={minutes} makes all steps{advice}"
