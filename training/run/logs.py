"""Logs of a run: a CSV file, TensorBoard and wandb; a resumed run continues all of them."""

from __future__ import annotations

import csv
import io
import math
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from tim_model.files.tensor_files import CheckpointError, one_line, write_text, writing

from ..data.batches import Batch
from ..objectives.loss import LossOutput
from ..processes.processes import Processes

# `loss` is minimized; the adaptive weight keeps it near 1, so watch `denoising_loss`. If the network or its target is
# not finite for some samples, `nonfinite_samples` counts them and the losses are NaN.
COLUMNS = (
    "step", "epoch", "loss", "denoising_loss", "proj_loss", "grad_norm", "lr", "samples_per_second", "minutes",
    "memory_gib", "held_out_loss", "nonfinite_samples",
)  # fmt: skip


class Meter:
    """Sums of the values of steps between two log lines."""

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        self.sums: dict[str, float | Tensor] = {}
        self.steps, self.last = 0, {}

    def add(self, out: LossOutput, batch: Batch) -> None:
        """Add a pass, its losses weighted by its samples, without waiting for the device."""
        values = {"loss": out.weighted_loss, "denoising_loss": out.denoising_loss.mean(), "proj_loss": out.proj_loss}
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach().float() * batch.count
        counts = {"samples": batch.count, "nonfinite_samples": (~out.finite).sum() * (batch.count > 0)}
        for name, value in counts.items():
            self.sums[name] = self.sums.get(name, 0) + value

    def end_step(self, grad_norm: float, lr: float, seconds: float) -> None:
        self.steps += 1
        self.sums["seconds"] = self.sums.get("seconds", 0) + seconds
        self.last = {"grad_norm": grad_norm, "lr": lr}

    def take(self, processes: Processes) -> dict[str, float]:
        """Means over all processes since the last call; resets the sums."""
        names = ("loss", "denoising_loss", "proj_loss", "samples", "nonfinite_samples")
        total = dict(zip(names, processes.sum([self.sums[name] for name in names]), strict=True))
        samples, nonfinite = total.pop("samples"), int(total.pop("nonfinite_samples"))
        values = {name: math.nan if nonfinite else value / samples for name, value in total.items()}
        values |= {"nonfinite_samples": nonfinite, **self.last, "samples_per_second": samples / self.sums["seconds"]}
        values |= {"memory_gib": processes.memory_gib()}
        self.reset()
        return values


class Logs:
    """Writes the logs of a run; for the main process only.

    Args:
        folder: of the run.
        step: the run resumes after this one; rows of later steps, from before a kill, are dropped.
        tensorboard: prints a line if it is not installed.
        wandb: a project, "" for none.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool, wandb: str = "", config: Mapping | None = None):
        self.csv = folder / "log.csv"
        cut_csv(self.csv, step)
        self.board = open_tensorboard(folder / "tensorboard", step) if tensorboard else None
        self.wandb = open_wandb(folder, step, wandb, config) if wandb else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log values of some `COLUMNS`."""
        with writing(self.csv), open(self.csv, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow({"step": step, **values})
        for name, value in values.items():
            self.write_board("add_scalar", name, value, step)
        if self.wandb is not None:
            self.wandb.log(dict(values), step=step)

    def image(self, step: int, image: Image.Image) -> None:
        """Log a sample sheet."""
        self.write_board("add_image", "samples", np.asarray(image), step, dataformats="HWC")
        if self.wandb is not None:
            import wandb

            self.wandb.log({"samples": wandb.Image(image)}, step=step)

    def write_board(self, method: str, *arguments, **options) -> None:
        """Call a method of TensorBoard's writer; if it fails, as on a full disk, the run continues without it."""
        if self.board is None:
            return
        try:
            getattr(self.board, method)(*arguments, **options)
        except OSError as error:
            print(f"TensorBoard cannot write ({error.strerror}): numbers go to log.csv alone")
            self.board = None

    def close(self) -> None:
        self.write_board("close")
        if self.wandb is not None:
            self.wandb.finish()


def cut_csv(path: Path, step: int) -> None:
    """Keep the header and complete rows up to `step`."""
    kept = [row for row in read_csv(path) if int(row["step"]) <= step]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows(kept)
    write_text(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The complete rows of a log; a row truncated by a kill is dropped.

    Raises:
        CheckpointError: not a log of a run.
    """
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames and reader.fieldnames[0] != COLUMNS[0]:
            raise CheckpointError(f"{path}: is no log of a training run, expected another run.folder")
        return [row for row in reader if row["step"].isdecimal() and None not in row.values()]


def open_tensorboard(folder: Path, step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("TensorBoard is not installed (pip install tensorboard): numbers go to log.csv alone")
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


def open_wandb(folder: Path, step: int, project: str, config: Mapping | None):
    """The wandb run of a run folder: new for a new run, continued for a resumed run.

    Raises:
        ValueError: wandb fails, for example without a login.
    """
    try:
        import wandb
    except ImportError:
        print("wandb is not installed (pip install wandb): numbers go to log.csv")
        return None
    name = wandb_id(folder / "wandb_id.txt", fresh=step == 0)
    try:
        return wandb.init(
            project=project, dir=str(folder), id=name, name=folder.name, resume="allow", config=dict(config or {})
        )
    except wandb.Error as error:
        advice = "`wandb login`, WANDB_MODE=offline, or run.wandb= for none"
        raise ValueError(f"run.wandb={project}: {one_line(error)}; {advice}") from None


def wandb_id(path: Path, fresh: bool) -> str:
    """The id in a file of the run folder; a new run, or a missing file, gets a new id."""
    known = path.read_text(encoding="utf-8").strip() if path.is_file() and not fresh else ""
    if not known:
        known = uuid.uuid4().hex
        write_text(path, known + "\n")
    return known
