"""What a run tells and shows on its way: lines, logs, held-out loss, sample sheets and, at its end, weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from .budget import Budget
from .cache import write_text
from .config import to_yaml
from .engine import Engine
from .export import write_weights
from .learner import Learner
from .logs import Logs, Meter
from .precision import describe_precision, slower_bf16
from .samples import draw_sheet, make_sheet
from .sections import Config
from .setup import Parts, describe
from .state import read_state
from .step import held_out_loss


class Reporter:
    """Reports on a run, and writes into its folder, all but the states; files and lines by the main process alone.

    Raises:
        ValueError: the sample sheet cannot be drawn as configured.
    """

    def __init__(self, config: Config, engine: Engine, parts: Parts, learner: Learner):
        self.config, self.engine, self.parts, self.learner = config, engine, parts, learner
        self.folder = Path(config.run.folder)
        self.sheet = make_sheet(parts, config)
        self.meter = Meter()
        run, advice = config.run, slower_bf16(config.run.precision, engine.device)
        self.budget = Budget(
            run.steps, run.max_minutes, config.optimizer, config.data.batch_size, "run.precision=auto" if advice else ""
        )

    def begin(self, step: int) -> None:
        """Prepare the run folder, and say what is trained."""
        run = self.config.run
        self.logs = Logs(self.folder, step, run.tensorboard, run.wandb, asdict(self.config))
        write_text(self.folder / "config.yaml", to_yaml(self.config))
        dataset = self.parts.dataset
        write_text(self.folder / "data.txt", self.parts.data.table() + "\n")
        print(f"data: {len(dataset.samples)} samples, {len(dataset.dropped)} dropped, see {self.folder / 'data.txt'}")
        print("\n".join([*dataset.remarks(), self.parts.data.describe_batches()]))
        print(describe(self.parts))
        precision = describe_precision(run.precision, self.engine.device)
        print(f"processes: {self.engine.world}, device: {self.engine.device}, precision: {precision}")
        print(f"from step {step}" if step else "from step 0, a fresh run", f"in {self.folder}", flush=True)

    def report(self, step: int, seconds: float, last: bool, bar: tqdm) -> None:
        """Numbers, held-out loss and sample sheet of a step, each when its step has come and after the last one."""
        run = self.config.run
        values = {}
        if step % run.log_every == 0 or last:
            values = self.meter.take(self.engine)
            values |= {"epoch": step / self.parts.data.batches_per_epoch, "minutes": seconds / 60}
            bar.set_postfix(loss=f"{values['denoising_loss']:.4f}", samples_per_s=f"{values['samples_per_second']:.1f}")
        if not self.engine.is_main:
            return
        if warning := self.budget.warning(step, seconds):
            bar.write(warning)
        if self.parts.data.held_out and (step % run.validate_every == 0 or last):
            values["held_out_loss"] = self.validate()
        if values:
            self.logs.write(step, values)
        every = self.config.sampling.every
        if self.sheet and every and (step % every == 0 or last):
            path = self.folder / "samples" / f"step-{step:08d}.png"
            with self.learner.sampling():
                picture = draw_sheet(self.sheet, self.learner.ema.net, self.engine.device, path)
            if picture:
                self.logs.picture(step, picture)

    def validate(self) -> float:
        size = -(-self.config.data.batch_size // self.config.optimizer.accumulation)
        batches = self.parts.data.held_out_batches(size)
        with self.engine.autocast():
            return held_out_loss(self.learner.loss, self.learner.ema.net, batches, self.engine.device)

    def write_weights(self, path: Path) -> None:
        """The weights of a state, averaged and as trained."""
        state = read_state(path)
        name = "lora" if self.config.model.trains_lora else "model"
        for kind in ("ema", "raw"):
            print(f"wrote {write_weights(state, self.folder / f'{name}-{kind}.safetensors', kind)}")

    def close(self) -> None:
        self.logs.close()
