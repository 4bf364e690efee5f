"""Processes that are joined as launchers join them, yet each with words of its own, and all quick to start."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import accelerate  # noqa: F401, loaded once for all of them
import torch
import torch._dynamo

from training.train import main

PATIENCE = 120  # seconds
START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(START)
if START == "forkserver":
    CONTEXT.set_forkserver_preload([__name__])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def work(function: Callable[..., int], arguments: Sequence, variables: dict[str, str], output: Path) -> None:
    """One process: its status is what `function` returns, its output goes to a file."""
    sys.stdout = sys.stderr = file = open(output, "w", encoding="utf-8")  # noqa: SIM115, until the process ends
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    faulthandler.dump_traceback_later(PATIENCE - 20)
    os.environ.update(variables)
    torch.set_num_threads(1)
    try:
        status = function(*arguments)
    except SystemExit as end:
        status = end.code
    except BaseException:  # noqa: BLE001, told by the output
        traceback.print_exc()
        status = 99
    file.flush()
    os._exit(status)


class Ranks:
    """One process for each list of arguments of `function`, which must be a module's."""

    def __init__(self, function: Callable[..., int], arguments: Sequence[Sequence]):
        shared = {"WORLD_SIZE": str(len(arguments)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        shared |= {"OMP_NUM_THREADS": "1"}
        self.folder = Path(tempfile.mkdtemp())
        self.processes = []
        for k, own in enumerate(arguments):
            variables = {**shared, "RANK": str(k), "LOCAL_RANK": str(k)}
            process = CONTEXT.Process(target=work, args=(function, own, variables, self.output(k)))
            process.start()
            self.processes.append(process)

    def output(self, k: int) -> Path:
        return self.folder / f"{k}.txt"

    def wait(self, seconds: float = PATIENCE) -> list[tuple[int, str]]:
        """Exit status and output of each process."""
        for process in self.processes:
            process.join(seconds)
        late = [process for process in self.processes if process.is_alive()]
        for process in late:
            process.kill()
        results = [(p.exitcode, self.output(k).read_text(encoding="utf-8")) for k, p in enumerate(self.processes)]
        assert not late, results
        return results


def run_ranks(function: Callable[..., int], arguments: Sequence[Sequence]) -> list[tuple[int, str]]:
    return Ranks(function, arguments).wait()


def train_ranks(recipe: Path, *overrides: Sequence[str]) -> list[tuple[int, str]]:
    """The training command in as many processes as there are lists of overrides."""
    return run_ranks(main, [([str(recipe), *own],) for own in overrides])


def errors(results: list[tuple[int, str]]) -> list[str]:
    """The lines that begin with "error: " of processes that all failed."""
    assert [status for status, _ in results] == [1] * len(results), results
    return [line for _, output in results for line in output.splitlines() if line.startswith("error: ")]
