"""The processes that torchrun or accelerate launch started: which of them this is, and waiting for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

Item = TypeVar("Item")
PATIENCE = timedelta(days=7)  # for others that still draw


@dataclass(frozen=True)
class Share:
    """One of `world` processes, each of which takes every world-th item; `local` is its rank on its machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    def of(self, items: Sequence[Item]) -> list[Item]:
        return list(items[self.rank :: self.world])

    def device(self, device: str | None) -> str | None:
        """The device of this process: of several GPUs of a machine, each process has its own."""
        several = self.world > 1 and torch.cuda.is_available() and device in (None, "cuda")
        return f"cuda:{self.local % torch.cuda.device_count()}" if several else device

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            dist.monitored_barrier(timeout=PATIENCE)

    def leave(self) -> None:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def join() -> Share:
    """This process among those of its launcher; alone without one.

    Raises:
        RuntimeError: the others do not answer.
        ValueError: the launcher has said which process this is, but not where the others are.
    """
    if not dist.is_available():
        return Share()
    try:
        dist.init_process_group("gloo")
    except ValueError as error:
        if any(name in str(error) for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")):
            raise
        return Share()  # its rank is not set
    return Share(dist.get_rank(), dist.get_world_size(), dist.get_node_local_rank(dist.get_rank()))
