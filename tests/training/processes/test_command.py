"""How commands end: a real Ctrl-C while they read, and errors of any kind, are one line and an exit status."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from training import classifier, demo, train
from training.autoencoder import __main__ as autoencoder
from training.language_model import __main__ as language_model
from training.processes.command import run_command
from training.scenes import __main__ as scenes

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes with names")


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """As in a process of its own: runs of other tests leave their own answer to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def pipe(tmp_path) -> Iterator[Path]:
    """A file that never comes to an end; who opens it gets a Ctrl-C."""
    path = tmp_path / "pipe" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir()
    os.mkfifo(path)

    def interrupt() -> None:
        end = os.open(path, os.O_WRONLY)  # as soon as the command reads
        os.kill(os.getpid(), signal.SIGINT)
        waiting.wait(10)
        os.close(end)

    waiting = threading.Event()
    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    yield path
    waiting.set()
    thread.join(10)


@pytest.mark.parametrize("module", [train, autoencoder, language_model], ids=lambda module: module.__name__)
def test_interruption_of_a_command_with_a_recipe(pipe, capsys, module):
    assert module.main([str(pipe)]) == 130
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("stopped")


@pytest.mark.parametrize("module", [classifier, scenes], ids=lambda module: module.__name__)
def test_interruption_of_a_command_that_reads_pictures(pipe, tmp_path, capsys, module):
    (pipe.parent / "train-labels-idx1-ubyte").write_bytes(b"")
    out = str(tmp_path / "out.safetensors")
    arguments = [str(pipe.parent), out] if module is classifier else ["--items", str(pipe.parent), "--out", out]
    assert module.main(arguments) == 130
    assert capsys.readouterr().err.splitlines() == [
        "stopped; nothing was written" if module is classifier else "stopped"
    ]
    assert not Path(out).exists()


def test_interruption_lets_a_stage_of_the_demo_save(tmp_path, monkeypatch):
    """The child, which gets the same signal from the terminal, takes its time to end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m` does
    Path("maker.py").write_text(
        "import os, signal, sys, time\n"
        "os.kill(os.getppid(), signal.SIGINT)\n"
        "time.sleep(0.6)\n"
        "open('state', 'x').close()\n"
        "sys.exit(130)\n"
    )
    with pytest.raises(KeyboardInterrupt):
        demo.run(tmp_path / "made", ["maker"])
    assert Path("state").exists()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "error: MemoryError"),
        (MemoryError("Unable to allocate\n1 TiB"), "error: Unable to allocate 1 TiB"),
        (FileNotFoundError(2, "No such file or directory", "x"), "error: [Errno 2] No such file or directory: 'x'"),
        (RuntimeError("no device"), "error: no device"),
    ],
    ids=repr,
)
def test_errors_are_one_line(capsys, error, line):
    def work(arguments: argparse.Namespace) -> None:
        raise error

    assert run_command(argparse.ArgumentParser(), work, []) == 1
    assert capsys.readouterr().err == f"{line}\n"


def test_classifier_checks_where_it_writes_before_it_trains(tmp_path, capsys):
    assert classifier.main([str(tmp_path), str(tmp_path / "no" / "out.safetensors")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"the folder {tmp_path / 'no'} does not exist" in error
