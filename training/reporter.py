"""What a run tells and shows on its way: lines, logs, held-out loss, sample sheets and, at its end, weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from .budget import Budget
from .cache import write_text
from .config import to_yaml
from .engine import Engine
from .export import step_of_weights, write_weights
from .learner import Learner
from .logs import Logs, Meter, read_csv
from .precision import describe_precision, slower_bf16
from .samples import Drawn, draw_sheet, make_sheet, write_sheet
from .sections import Config
from .setup import Parts, describe
from .share import together
from .signals import StopSignals
from .state import read_state
from .step import held_out_losses, mean_loss


class Reporter:
    """Reports on a run, and writes into its folder, all but the states; files and lines by the main process alone.

    Raises:
        ValueError: the sample sheet cannot be drawn as configured.
    """

    def __init__(self, config: Config, engine: Engine, parts: Parts, learner: Learner, stop: StopSignals):
        self.config, self.engine, self.parts, self.learner, self.stop = config, engine, parts, learner, stop
        self.folder = Path(config.run.folder)
        self.sheet = make_sheet(parts, config)
        self.meter = Meter()
        run, advice = config.run, slower_bf16(config.run.precision, engine.device)
        self.budget = Budget(
            run.steps, run.max_minutes, config.optimizer, config.data.batch_size, "run.precision=auto" if advice else ""
        )

    def begin(self, step: int, numbers: dict[str, float], done: bool) -> None:
        """Prepare the run folder, and say what is trained; `numbers` are those of the step that the run goes on from.

        Args:
            done: there is no step left to train.
        """
        run = self.config.run
        self.remove_leftovers()
        logged = step - 1 if self.row_missing(step, numbers, done) else step
        self.logs = Logs(self.folder, logged, run.tensorboard, run.wandb, asdict(self.config))
        if done:
            return  # the files in the folder are those of what was trained
        write_text(self.folder / "config.yaml", to_yaml(self.config))
        dataset = self.parts.dataset
        write_text(self.folder / "data.txt", self.parts.data.table() + "\n")
        print(f"data: {len(dataset.samples)} samples, {len(dataset.dropped)} dropped, see {self.folder / 'data.txt'}")
        print("\n".join([*dataset.remarks(), self.parts.data.describe_batches(), *self.parts.data.describe_captions()]))
        print(describe(self.parts))
        precision = describe_precision(run.precision, self.engine.device)
        print(f"processes: {self.engine.world}, device: {self.engine.device}, precision: {precision}")
        print(f"from step {step}" if step else "from step 0, a fresh run", f"in {self.folder}", flush=True)

    def remove_leftovers(self) -> None:
        """Half-written files of runs that were killed."""
        for folder in (self.folder, self.samples):
            for path in folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------------ after a step

    def numbers(self, step: int, seconds: float, end: bool, bar: tqdm) -> dict[str, float]:
        """What is logged of the steps since the last time, where this step is one that is logged; else {}."""
        if self.engine.is_main and (warning := self.budget.warning(step, seconds)):
            bar.write(warning)
        if step % self.config.run.log_every and not end:
            return {}
        values = self.meter.take(self.engine)
        values |= {"epoch": step / self.parts.data.batches_per_epoch, "minutes": seconds / 60}
        bar.set_postfix(loss=f"{values['denoising_loss']:.4f}", samples_per_s=f"{values['samples_per_second']:.1f}")
        return values

    def report(self, step: int, numbers: dict[str, float], end: bool) -> None:
        """The log row of a step, with its held-out loss, and its sample sheet, each if due; see `numbers`."""
        self.write_row(step, numbers, end)
        self.write_sheet(step, end)

    def catch_up(self, step: int, numbers: dict[str, float], end: bool) -> None:
        """What is due after a step, as far as the run that saved its state was stopped or killed before it was done."""
        missing = self.row_missing(step, numbers, end), self.sheet_missing(step, end)
        row, sheet = self.engine.share.gather(missing)[0]  # of the process that writes
        if row or sheet:
            names = ["log row"] * row + ["sample sheet"] * sheet
            self.tell(f"step {step} lacks its {' and '.join(names)}: made up for now")
        if row:
            self.write_row(step, numbers, end)
        if sheet:
            self.write_sheet(step, end)

    def write_row(self, step: int, numbers: dict[str, float], end: bool) -> None:
        values = dict(numbers)
        if self.validation_due(step, end):
            losses = self.engine.share.gather(self.stop.unless(self.held_out_losses))
            if None not in losses:
                values["held_out_loss"] = mean_loss(losses)
            else:
                self.tell(f"no held-out loss of step {step}: the run was stopped before, and makes up for it")
        if values:
            with together():
                if self.engine.is_main:
                    self.logs.write(step, values)

    def write_sheet(self, step: int, end: bool) -> None:
        if not self.sheet_due(step, end):
            return
        parts = self.engine.share.gather(self.stop.unless(self.draw))
        if None in parts:
            self.tell(f"no sample sheet of step {step}: the run was stopped before, and makes up for it")
        elif self.engine.is_main and (picture := write_sheet(self.sheet, parts, self.sheet_path(step))):
            self.logs.picture(step, picture)

    def tell(self, line: str) -> None:
        if self.engine.is_main:
            print(line, flush=True)

    def draw(self) -> Drawn:
        """The own part of a sheet."""
        with self.learner.sampling():
            return draw_sheet(self.sheet, self.learner.ema.net, self.engine.device, self.engine.share)

    def held_out_losses(self) -> dict[int, float]:
        """Of the own part of the held-out samples, by their place."""
        size = -(-self.config.data.batch_size // self.config.optimizer.accumulation)
        batches = self.parts.data.held_out_batches(size, self.engine.share)
        with self.engine.autocast():
            return held_out_losses(self.learner.loss, self.learner.ema.net, batches, self.engine.device)

    # ------------------------------------------------------------------ what is due

    def validation_due(self, step: int, end: bool) -> bool:
        return bool(self.parts.data.held_out) and (step % self.config.run.validate_every == 0 or end)

    def sheet_due(self, step: int, end: bool) -> bool:
        every = self.config.sampling.every
        return self.sheet is not None and (step % every == 0 or end)

    def row_missing(self, step: int, numbers: dict[str, float], end: bool) -> bool:
        """Whether the log lacks a row that is due, or its held-out loss."""
        validated = self.validation_due(step, end)
        if not step or not (numbers or validated):
            return False
        row = next((row for row in read_csv(self.folder / "log.csv") if int(row["step"]) == step), None)
        return row is None or validated and not row.get("held_out_loss")

    def sheet_missing(self, step: int, end: bool) -> bool:
        return self.sheet_due(step, end) and not self.sheet_path(step).exists()

    @property
    def samples(self) -> Path:
        return self.folder / "samples"

    def sheet_path(self, step: int) -> Path:
        return self.samples / f"step-{step:08d}.png"

    # ------------------------------------------------------------------ the end

    def finish(self, path: Path, step: int, seconds: float, done: bool) -> None:
        """Write the weights of the last state, and say what the run has come to.

        Args:
            done: there was nothing to train; weights that are there stay as they are.
        """
        cut = self.budget.closing(step, seconds)
        if done:
            steps = f"{self.folder} is at step {step}, run.steps={self.config.run.steps}; a larger run.steps goes on"
            print(f"nothing was trained: {cut or steps}; another run.folder=… starts another run")
        self.write_weights(path, step, done)
        if cut and not done:
            print(cut)

    def write_weights(self, path: Path, step: int, done: bool) -> None:
        """The weights of a state, averaged and as trained."""
        name = "lora" if self.config.model.trains_lora else "model"
        files = {kind: self.folder / f"{name}-{kind}.safetensors" for kind in ("ema", "raw")}
        missing = {kind: file for kind, file in files.items() if not (done and step_of_weights(file) == step)}
        state = read_state(path) if missing else {}
        for kind, file in missing.items():
            print(f"wrote {write_weights(state, file, kind)}")

    def close(self) -> None:
        self.logs.close()
