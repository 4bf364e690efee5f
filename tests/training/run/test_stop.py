"""Stops, kills and steps without a finite gradient: no step behind them is lost, and what was due is made up for."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from training.config.load import load_config
from training.processes.signals import NAMES, StopSignals
from training.run.logs import read_csv
from training.run.trainer import Trainer
from training.states.states import read_state

from ..refusal import names
from ..tiny import ROOT, last_state, start, train, write_classes, write_recipe

LONG = ("sampling.every=2", "sampling.steps=[3000]")  # a sheet of 6,000 calls of the network
SHORT = ("sampling.every=2", "sampling.steps=[1]")
HELD_OUT = ("data.held_out=4", "run.validate_every=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"), 4)


def wait_for(path: Path, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return path.exists()


def state_path(folder: Path, step: int) -> Path:
    return folder / "states" / f"step-{step:08d}.pt"


def held_out_losses(folder: Path) -> dict[str, str]:
    return {row["step"]: row["held_out_loss"] for row in read_csv(folder / "log.csv")}


# ---------------------------------------------------------------------- the state comes first


def test_kill_in_the_sheet_costs_no_step_and_the_sheet_is_made_up_for(data, tmp_path, capsys):
    recipe, folder = write_recipe(tmp_path, data), tmp_path / "run"
    process = start(recipe, *LONG, *HELD_OUT)
    saved = wait_for(state_path(folder, 2))
    process.kill()
    process.communicate()
    assert saved and not (folder / "samples").exists()
    assert train(recipe, *SHORT, *HELD_OUT, "run.steps=3") == 0
    output = capsys.readouterr().out
    assert "from step 2 in" in output and "step 2 lacks its " in output
    assert names(folder / "samples") == ["step-00000002.png", "step-00000003.png"]
    assert all(held_out_losses(folder).values()) and list(held_out_losses(folder)) == ["2", "3"]


@pytest.mark.parametrize("name", [name for name in NAMES if hasattr(signal, name)])
def test_a_stop_cuts_the_sheet_short(data, tmp_path, capsys, name):
    recipe, folder = write_recipe(tmp_path, data), tmp_path / "run"

    def send() -> None:
        wait_for(state_path(folder, 2))
        os.kill(os.getpid(), getattr(signal, name))

    sender = threading.Thread(target=send)
    sender.start()
    assert train(recipe, *LONG, "run.steps=4") == 130
    sender.join()
    output = capsys.readouterr().out
    assert "no sample sheet of step 2" in output and "stopped at step 2; the same command goes on from" in output
    assert names(folder / "states") == ["step-00000002.pt"] and not list(folder.glob("samples/*"))
    assert [row["step"] for row in read_csv(folder / "log.csv")] == ["2"]
    assert train(recipe, *SHORT, "run.steps=4") == 0
    assert "step 2 lacks its sample sheet" in capsys.readouterr().out
    assert names(folder / "samples") == ["step-00000002.png", "step-00000004.png"]


def test_log_of_a_run_that_was_stopped_is_that_of_one_that_was_not(data, tmp_path):
    """Its held-out loss of the step at which it was stopped is skipped, and then made up for from the state."""
    options = (*HELD_OUT, "run.steps=4")
    assert train(write_recipe(tmp_path, data, "whole"), *options) == 0
    run = Trainer(load_config(recipe := write_recipe(tmp_path, data, "cut"), options))

    def stop(gradient: torch.Tensor) -> torch.Tensor:
        if run.progress.step == 1:
            signal.raise_signal(signal.SIGTERM)
        return gradient

    run.net.x_embedder.proj.weight.register_hook(stop)
    assert run.train() == 130
    assert held_out_losses(tmp_path / "cut") == {"2": ""}
    assert train(recipe, *options) == 0
    for column in ("step", "loss", "held_out_loss"):
        logs = ([row[column] for row in read_csv(tmp_path / name / "log.csv")] for name in ("whole", "cut"))
        assert next(logs) == next(logs)


def test_closed_terminal_ends_the_run_with_a_state(data, tmp_path, monkeypatch):
    """The terminal is gone before the run writes its last lines to it."""
    pty = pytest.importorskip("pty", reason="terminals are POSIX")
    recipe, log = write_recipe(tmp_path, data), tmp_path / "run" / "log.csv"
    command = [sys.executable, "-m", "training.train", str(recipe), "run.steps=1000000", "checkpoint.every=1000000"]
    monkeypatch.chdir(ROOT)
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, command)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and len(read_csv(log)) > 1):
        if select.select([terminal], [], [], 0.1)[0]:
            os.read(terminal, 1 << 16)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130
    assert last_state(tmp_path / "run")["step"] > 2


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_nohup_is_left_alone():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    StopSignals().install()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL


def test_a_second_signal_does_not_cut_what_the_first_one_began():
    stop = StopSignals()
    stop.install()
    assert stop.unless(lambda: 1) == 1
    signal.raise_signal(signal.SIGTERM)
    assert stop.received and stop.unless(lambda: 1) is None
    stop.receive(signal.SIGINT, None)  # of another kind: raises nothing
    stop.install()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)


# ---------------------------------------------------------------------- steps without a finite gradient


def run_with_nan(recipe: Path, steps: range, *overrides: str, then=lambda: None) -> Trainer:
    """A run whose gradient holds NaN in some steps."""
    run = Trainer(load_config(recipe, overrides))

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        if run.progress.step not in steps:
            return gradient
        then()
        return gradient * torch.nan

    run.net.x_embedder.proj.weight.register_hook(spoil)
    return run


def weights_of(folder: Path, step: int) -> dict[str, torch.Tensor]:
    state = read_state(state_path(folder, step))
    assert all(value.isfinite().all() for value in (*state["net"].values(), *state["ema"]["net"].values()))
    return state["net"]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_nan_in_the_last_step_loses_nothing(data, tmp_path):
    recipe, folder = write_recipe(tmp_path, data), tmp_path / "run"
    assert run_with_nan(recipe, range(7, 8), "checkpoint.every=7").train() == 0
    assert equal(weights_of(folder, 8), weights_of(folder, 7))
    assert last_state(folder)["failures"] == 1
    assert (folder / "model-ema.safetensors").is_file() and (folder / "model-raw.safetensors").is_file()


def test_nan_in_the_step_of_a_checkpoint_does_not_skip_it(data, tmp_path):
    recipe, folder = write_recipe(tmp_path, data), tmp_path / "run"
    assert run_with_nan(recipe, range(3, 4), "checkpoint.keep_last=9").train() == 0
    assert names(folder / "states") == [f"step-{step:08d}.pt" for step in (2, 4, 6, 8)]


def test_nan_in_the_step_in_which_the_time_is_up(data, tmp_path):
    recipe, folder = write_recipe(tmp_path, data), tmp_path / "run"
    assert run_with_nan(recipe, range(1), "run.max_minutes=1e-9").train() == 0
    assert weights_of(folder, 1) and (folder / "model-ema.safetensors").is_file()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_nan_in_the_step_in_which_the_run_is_stopped(data, tmp_path, name):
    recipe, folder = write_recipe(tmp_path, data), tmp_path / "run"
    number = getattr(signal, name)
    run = run_with_nan(recipe, range(4, 5), then=lambda: signal.raise_signal(number))
    assert run.train() == 130
    assert equal(weights_of(folder, 5), weights_of(folder, 4))
    assert train(recipe) == 0


def test_diverged_run_keeps_its_last_weights_and_goes_on_from_them(data, tmp_path):
    recipe, folder = write_recipe(tmp_path, data), tmp_path / "run"
    options = ("run.max_nonfinite=3", "checkpoint.keep_last=1", "checkpoint.every=4")
    with pytest.raises(ValueError, match=r"3 steps in a row .*near step 8: stopped; .*step-00000008\.pt.*resume=") as e:
        run_with_nan(recipe, range(5, 8), *options).train()
    assert f"resume={state_path(folder, 4)}" in str(e.value)  # where the weights themselves are at fault
    assert names(folder / "states") == ["step-00000004.pt", "step-00000008.pt"]
    assert not equal(weights_of(folder, 8), weights_of(folder, 4))  # a step later
    assert run_with_nan(recipe, range(8, 10), *options, "run.steps=11").train() == 0  # two more are not too many again
    assert last_state(folder)["step"] == 11


def test_weights_that_are_not_finite_are_not_saved(data, tmp_path):
    recipe, folder = write_recipe(tmp_path, data), tmp_path / "run"
    assert train(recipe, "run.steps=2") == 0
    run = Trainer(load_config(recipe, ["run.steps=3"]))
    with torch.no_grad():
        run.net.x_embedder.proj.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"1 step in a row .*last good state is .*step-00000002\.pt"):
        run.train()
    assert names(folder / "states") == ["step-00000002.pt"]
