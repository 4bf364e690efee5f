"""Cooperation of a run's processes: shares of work, exchange of values, and errors that end all of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist

from tim_model.files.tensor_files import one_line, writing

from ..config.load import ConfigError

Value = TypeVar("Value")


class PeerError(ValueError):
    """Another process of the run has failed; the message holds its rank and its error."""


@dataclass(frozen=True)
class Failure:
    """The message that a failed process exchanges in place of a value."""

    message: str


@dataclass(frozen=True)
class Share:
    """One of `world` processes that split work between them: each takes every world-th item.

    Args:
        members: their ranks in the run; () for all of its processes.
    """

    rank: int = 0
    world: int = 1
    members: tuple[int, ...] = ()

    def of(self, items: Iterable[Value]) -> list[Value]:
        return list(items)[self.rank :: self.world]

    def gather(self, value: Value) -> list[Value]:
        """The values of all members; all processes of the run must call it."""
        values = exchange(value)
        return [values[rank] for rank in self.members] if self.members else values


ALONE = Share()


def started_processes() -> int:
    """The number of processes started by torchrun or accelerate; 1 without accelerate."""
    try:
        from accelerate.utils import get_int_from_env
    except ImportError:
        return 1
    return get_int_from_env(["WORLD_SIZE"], 1)


def joined() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """The rank of this process in the run."""
    return dist.get_rank() if joined() else 0


def exchange(value: Value) -> list[Value]:
    """The values of all processes by rank; all of them must call it.

    Raises:
        PeerError: a process failed instead, inside `together`.
    """
    if not joined():
        return [value]
    values: list = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    for peer, found in enumerate(values):
        if isinstance(found, Failure):
            raise PeerError(f"rank {peer}: {found.message}")
    return values


@contextmanager
def together() -> Iterator[None]:
    """An error in one process inside the block is raised in all of them; only the first process reports it.

    Inside, processes wait for each other only in `exchange`, which passes the error to waiting processes.
    """
    try:
        yield
        exchange(None)
    except BaseException as error:
        if joined() and (isinstance(error, PeerError) or send_failure(error)) and rank() > 0:
            raise SystemExit(1) from None
        raise


def send_failure(error: BaseException) -> bool:
    """Send the other processes an error in place of the value that they wait for; False if they have ended."""
    try:
        exchange(Failure("interrupted" if isinstance(error, KeyboardInterrupt) else one_line(error)))
    except PeerError:
        return True
    except RuntimeError:
        return False
    return True


def share_by(key: object) -> Share:
    """The share of this process among those that have the same key."""
    members = tuple(peer for peer, found in enumerate(exchange(key)) if found == key)
    return Share(members.index(rank()), len(members), members)


def share_of_folder(folder: Path) -> Share:
    """The share of this process among those that see the same folder, on a local or a shared disk.

    The first process writes a file with its rank, which all processes find that see the folder.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    if not joined():
        return Share()
    token = folder / f".{exchange(uuid.uuid4().hex)[0]}.tmp"
    with writing(token), suppress(FileExistsError), open(token, "x", encoding="utf-8") as file:
        file.write(str(rank()))
    exchange(None)  # all have written or found it
    owner = int(token.read_text(encoding="utf-8"))
    share = share_by(owner)  # all have read it
    if owner == rank():
        token.unlink(missing_ok=True)
    return share


def check_same(values: Mapping[str, object], advice: str) -> None:
    """Raise ConfigError in all processes unless all have the same values; it names the first one that differs."""
    peers = exchange(dict(values))
    for peer, found in enumerate(peers):
        for name, value in peers[0].items():
            if found[name] != value:
                both = f"rank {peer} has {name} {found[name]}, rank 0 {value}"
                raise ConfigError(f"{both}: expected the same in all processes; {advice}")
