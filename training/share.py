"""The processes of a run together: work in shares, values exchanged, and one error that ends all of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist

from tim_model.files import one_line

from .cache import writing
from .config import ConfigError

Value = TypeVar("Value")


class PeerError(ValueError):
    """Another process of the run cannot go on; the message names it and what it said."""


@dataclass(frozen=True)
class Failure:
    """What a process that cannot go on exchanges in place of a value."""

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
        """The value of each member. All processes of the run, members or not, call it."""
        values = exchange(value)
        return [values[rank] for rank in self.members] if self.members else values


ALONE = Share()


def joined() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Of this process in the run."""
    return dist.get_rank() if joined() else 0


def exchange(value: Value) -> list[Value]:
    """The value of every process of the run, by rank; all of them call it.

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
    """What fails in one process inside the block fails in all of them, and the first process alone says it.

    Inside, processes wait for each other in `exchange` only: there a failure reaches those that wait.
    """
    try:
        yield
        exchange(None)
    except BaseException as error:
        if joined() and (isinstance(error, PeerError) or tell(error)) and rank() > 0:
            raise SystemExit(1) from None
        raise


def tell(error: BaseException) -> bool:
    """Give the other processes an error in place of the value that they wait for; False where they are gone."""
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
    """The share of this process among those that see the same folder: on their own disk, or on one of all machines.

    The first process to get there leaves a file with its rank, which all find who see the folder.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    if not joined():
        return Share()
    token = folder / f".{exchange(uuid.uuid4().hex)[0]}.tmp"
    with writing(token), suppress(FileExistsError), open(token, "x", encoding="utf-8") as file:
        file.write(str(rank()))
    exchange(None)  # all have been there
    owner = int(token.read_text(encoding="utf-8"))
    share = share_by(owner)  # all have read it
    if owner == rank():
        token.unlink(missing_ok=True)
    return share


def check_same(values: Mapping[str, object], advice: str) -> None:
    """Raise ConfigError, in all processes, unless all have the same values; it names the first one that differs."""
    peers = exchange(dict(values))
    for peer, found in enumerate(peers):
        for name, value in peers[0].items():
            if found[name] != value:
                both = f"rank {peer} has {name} {found[name]}, rank 0 {value}"
                raise ConfigError(f"{both}: expected the same in all processes; {advice}")
