"""Numbers of a run: what is not finite is logged as such, and wandb knows each run folder's runs apart."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from training.config.load import load_config
from training.objectives.sample import Sample
from training.run.logs import Logs, read_csv
from training.run.trainer import Trainer

from ..losses import loss_of
from ..tiny import train, write_classes, write_recipe


def test_diverged_loss_is_logged_as_nan(tmp_path):
    recipe = write_recipe(tmp_path, write_classes(tmp_path / "data", 4))
    options = ["run.log_every=1", "run.max_nonfinite=3", "data.held_out=2", "run.validate_every=1"]
    assert train(recipe, "run.steps=1", *options) == 0
    run = Trainer(load_config(recipe, ["run.steps=20", *options]))
    with torch.no_grad():
        run.net.x_embedder.proj.weight.fill_(torch.nan)
        run.learner.ema.net.x_embedder.proj.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="without a finite gradient"):
        run.train()
    good, *bad = read_csv(tmp_path / "run" / "log.csv")
    assert good["nonfinite_samples"] == "0" and float(good["loss"]) > 0
    assert len(bad) == 2
    for row in bad:
        assert [row[name] for name in ("loss", "denoising_loss", "held_out_loss")] == ["nan"] * 3
        assert int(row["nonfinite_samples"]) > 0


def test_samples_without_a_finite_loss_are_known():
    """One of three targets is infinite: its loss is 0, as released, and it is told apart."""
    x = torch.randn(3, 2, 4, 4)
    noise = torch.where(torch.arange(3).view(-1, 1, 1, 1) == 1, torch.inf, torch.randn(3, 2, 4, 4))
    t = torch.full((3,), 0.5)
    out = loss_of(lambda x_t, *_: torch.ones_like(x_t), Sample(x, noise, t, t, torch.zeros(3)))
    assert out.finite.tolist() == [True, False, True]
    assert out.denoising_loss[1].abs() < 1e-6


class Recorder(ModuleType):
    """As much of wandb's interface as is used; it was tried with wandb 0.31 itself."""

    Error = type("Error", (Exception,), {})

    def __init__(self):
        super().__init__("wandb")
        self.runs: list[dict] = []
        self.logged: list[tuple[int, dict]] = []

    def init(self, **options) -> Recorder:
        if options["project"] == "refused":
            raise self.Error("no API key\nsecond line")
        self.runs.append(options)
        return self

    def log(self, values: dict, step: int) -> None:
        self.logged.append((step, values))

    def Image(self, picture: Image.Image) -> tuple[str, tuple[int, int]]:
        return "image", picture.size


@pytest.fixture
def wandb(monkeypatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", recorder)
    return recorder


def test_each_run_has_an_id_of_its_own(tmp_path, wandb):
    """Also those of two folders with one name; a resumed run goes on with its own, a fresh one does not."""
    first, second = tmp_path / "a" / "run", tmp_path / "b" / "run"
    for folder, step in ((first, 0), (first, 4), (second, 0), (first, 0)):
        folder.mkdir(parents=True, exist_ok=True)
        Logs(folder, step, tensorboard=False, wandb="project")
    ids = [options["id"] for options in wandb.runs]
    assert ids[0] == ids[1] and len({ids[0], ids[2], ids[3]}) == 3
    assert {options["name"] for options in wandb.runs} == {"run"}


def test_sheets_arrive(tmp_path, wandb):
    logs = Logs(tmp_path, 0, tensorboard=False, wandb="project")
    logs.image(7, Image.new("RGB", (20, 10)))
    assert wandb.logged == [(7, {"samples": ("image", (20, 10))})]


def test_refusal_of_wandb_is_one_line(tmp_path, wandb):
    with pytest.raises(ValueError, match=r"run\.wandb=refused: no API key; `wandb login`"):
        Logs(tmp_path, 0, tensorboard=False, wandb="refused")


def test_wandb_itself_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    logs = Logs(Path(tmp_path), 0, tensorboard=False, wandb="project")
    logs.image(1, Image.new("RGB", (20, 10)))
    logs.close()
    assert len(list(tmp_path.rglob("samples_1_*.png"))) == 1
