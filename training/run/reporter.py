"""Output of a run: lines, logs, held-out loss, sample sheets and, at the end, weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from tim_model.files.tensor_files import write_text

from ..components.parts import Parts, describe
from ..config.load import to_yaml
from ..config.schema import Config
from ..optim.budget import Budget
from ..processes.precision import describe_precision, slower_bf16
from ..processes.processes import Processes
from ..processes.share import together
from ..processes.signals import StopSignals
from ..states.weights import export_weights
from .learner import Learner
from .length import length, length_key
from .logs import Logs, Meter, read_csv
from .preflight import describe_training
from .sheet_reports import SheetReports
from .step_loss import held_out_losses, mean_loss


class Reporter:
    """Reports on a run and writes everything but states into its folder; the main process prints and writes.

    Raises:
        ValueError: the configured sample sheet is not possible.
    """

    def __init__(self, config: Config, processes: Processes, parts: Parts, learner: Learner, stop: StopSignals):
        self.config, self.processes, self.parts, self.learner, self.stop = config, processes, parts, learner, stop
        self.folder = Path(config.run.folder)
        self.sheets = SheetReports(config, processes, parts, learner, stop)
        self.meter = Meter()
        run, advice = config.run, slower_bf16(config.run.precision, processes.device)
        self.budget = Budget(
            run.steps, run.max_minutes, config.optimizer, config.data.batch_size,
            "run.precision=auto" if advice else "", parts.data.batches_per_epoch if run.epochs else 0,
        )  # fmt: skip

    def begin(self, step: int, numbers: dict[str, float], done: bool) -> None:
        """Prepare the run folder and print what is trained; `numbers` belong to the step from which the run resumes.

        Args:
            done: there is no step left to train.
        """
        run = self.config.run
        self.remove_leftovers()
        logged = step - 1 if self.row_missing(step, numbers, done) else step
        self.logs = Logs(self.folder, logged, run.tensorboard, run.wandb, asdict(self.config))
        if done:
            return  # keep the files of the training so far
        write_text(self.folder / "config.yaml", to_yaml(self.config))
        dataset = self.parts.dataset
        write_text(self.folder / "data.txt", self.parts.data.table() + "\n")
        print(f"data: {len(dataset.samples)} samples, {len(dataset.dropped)} dropped, see {self.folder / 'data.txt'}")
        print("\n".join([*dataset.remarks(), self.parts.data.describe_batches(), *self.parts.data.describe_settings()]))
        print(describe(self.parts))
        print("\n".join(describe_training(self.config, self.parts)))
        precision = describe_precision(run.precision, self.processes.device)
        print(f"processes: {self.processes.world}, device: {self.processes.device}, precision: {precision}")
        print(f"from step {step}" if step else "from step 0, a fresh run", f"in {self.folder}", flush=True)

    def remove_leftovers(self) -> None:
        """Temporary files of killed runs."""
        for folder in (self.folder, self.sheets.folder):
            for path in folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------------ after a step

    def numbers(self, step: int, seconds: float, end: bool, bar: tqdm) -> dict[str, float]:
        """The logged means since the last logged step, if this step is logged; else {}."""
        if self.processes.is_main and (warning := self.budget.warning(step, seconds)):
            bar.write(warning)
        if step % self.config.run.log_every and not end:
            return {}
        values = self.meter.take(self.processes)
        values |= {"epoch": step / self.parts.data.batches_per_epoch, "minutes": seconds / 60}
        bar.set_postfix(loss=f"{values['denoising_loss']:.4f}", samples_per_s=f"{values['samples_per_second']:.1f}")
        return values

    def report(self, step: int, numbers: dict[str, float], end: bool) -> None:
        """Write the log row of a step, its held-out loss and its sample sheet, each if due; see `numbers`."""
        self.write_row(step, numbers, end)
        self.draw_sheet(step, end)

    def catch_up(self, step: int, numbers: dict[str, float], end: bool) -> None:
        """Write the reports of a step that the previous run did not finish before it was stopped or killed."""
        missing = self.row_missing(step, numbers, end), self.sheets.missing(step, end)
        row, sheet = self.processes.share.gather(missing)[0]  # of the process that writes
        if row or sheet:
            names = ["log row"] * row + ["sample sheet"] * sheet
            self.announce(f"step {step} lacks its {' and '.join(names)}: made up for now")
        if row:
            self.write_row(step, numbers, end)
        if sheet:
            self.draw_sheet(step, end)

    def write_row(self, step: int, numbers: dict[str, float], end: bool) -> None:
        values = dict(numbers)
        if self.validation_due(step, end):
            losses = self.processes.share.gather(self.stop.unless(self.held_out_losses))
            if None not in losses:
                values["held_out_loss"] = mean_loss(losses)
            else:
                self.announce(f"no held-out loss of step {step}: the run was stopped before, and makes up for it")
        if values:
            with together():
                if self.processes.is_main:
                    self.logs.write(step, values)

    def draw_sheet(self, step: int, end: bool) -> None:
        if not self.sheets.due(step, end):
            return
        stopped, image = self.sheets.draw(step)
        if stopped:
            self.announce(f"no sample sheet of step {step}: the run was stopped before, and makes up for it")
        elif image:
            self.logs.image(step, image)

    def announce(self, line: str) -> None:
        """Print a line in the main process only."""
        if self.processes.is_main:
            print(line, flush=True)

    def held_out_losses(self) -> dict[int, float]:
        """Losses of this process's held-out samples, by index."""
        size = -(-self.config.data.batch_size // self.config.optimizer.accumulation)
        batches = self.parts.data.held_out_batches(size, self.processes.share)
        with self.processes.accelerator.autocast():
            return held_out_losses(self.learner.loss, self.learner.ema.net, batches, self.processes.device)

    # ------------------------------------------------------------------ due reports

    def validation_due(self, step: int, end: bool) -> bool:
        return bool(self.parts.data.held_out) and (step % self.config.run.validate_every == 0 or end)

    def row_missing(self, step: int, numbers: dict[str, float], end: bool) -> bool:
        """Whether the log lacks a due row or its held-out loss."""
        validated = self.validation_due(step, end)
        if not step or not (numbers or validated):
            return False
        row = next((row for row in read_csv(self.folder / "log.csv") if int(row["step"]) == step), None)
        return row is None or validated and not row.get("held_out_loss")

    # ------------------------------------------------------------------ the end

    def finish(self, path: Path, step: int, seconds: float, done: bool) -> None:
        """Write the weights of the last state and print the result of the run.

        Args:
            done: there was nothing to train; existing weights are kept.
        """
        cut = self.budget.closing(step, seconds)
        if done:
            run = self.config.run
            steps = f"{self.folder} is at step {step}, {length(run)}; a larger {length_key(run)} goes on"
            print(f"nothing was trained: {cut or steps}; another run.folder=… starts another run")
        name = "lora" if self.config.model.trains_lora else "model"
        for file in export_weights(path, self.folder, name, step if done else None):
            print(f"wrote {file}")
        if cut and not done:
            print(cut)

    def close(self) -> None:
        self.logs.close()
