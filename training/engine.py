"""The machinery under a run: accelerate joins processes and casts; here is what the loop needs of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tim_model import TiM

from .config import ConfigError
from .precision import choose_precision, training_device
from .sections import RunConfig
from .share import Share, exchange

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class Engine:
    """One of the processes of a run.

    Raises:
        ConfigError: accelerate is missing or set up in a way that does not fit.
    """

    def __init__(self, config: RunConfig):
        try:
            from accelerate import Accelerator
            from accelerate.utils import DistributedType, InitProcessGroupKwargs
        except ImportError:
            raise ConfigError("training needs accelerate: pip install -r training/requirements.txt") from None
        try:
            patience = InitProcessGroupKwargs(timeout=timedelta(minutes=config.timeout_minutes))
        except OverflowError:
            raise ConfigError(f"run.timeout_minutes={config.timeout_minutes:g}: expected at most a few days") from None
        try:
            self.precision = choose_precision(config.precision, training_device(config.cpu))
            self.accelerator = Accelerator(
                mixed_precision=PRECISIONS[self.precision], cpu=config.cpu, kwargs_handlers=[patience]
            )
        except ValueError as error:
            raise ConfigError(f"run.precision={config.precision}: {error}") from None
        if self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            kind = self.accelerator.distributed_type.value
            raise ConfigError(f"{kind}: states of sharded networks cannot be saved, expected plain processes (DDP)")
        self.device = self.accelerator.device
        if config.precision == "fp16" and self.device.type == "cpu":
            raise ConfigError("run.precision=fp16: needs a GPU, expected fp32 or bf16 on a CPU")
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.share = Share(self.rank, self.world)
        self.is_main = self.accelerator.is_main_process
        started = int(os.environ.get("WORLD_SIZE", "1"))  # by torchrun and its like
        if started != self.world:  # else each of them would write the whole run
            raise ConfigError(f"{started} processes were started, but no GPUs found to join them: set run.cpu=true")

    @property
    def scales(self) -> bool:
        """Whether losses are scaled, as fp16 needs."""
        return self.accelerator.scaler is not None

    def prepare(self, net: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        self.wait()  # all have come this far, or all end: from here on networks talk to each other
        return self.accelerator.prepare(net, optimizer)

    def autocast(self) -> AbstractContextManager:
        return self.accelerator.autocast()

    def joining(self, wrapped: nn.Module, last: bool) -> AbstractContextManager:
        """Gradients are averaged over the processes in the last pass of a step."""
        return nullcontext() if last else self.accelerator.no_sync(wrapped)

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def clip(self, net: nn.Module, norm: float) -> float:
        """Clip the gradient; returns its norm before, the same in all processes."""
        return float(self.accelerator.clip_grad_norm_([p for p in net.parameters() if p.requires_grad], norm))

    def sum(self, values: Sequence[float | Tensor]) -> list[float]:
        """Each value summed over the processes."""
        local = torch.stack([torch.as_tensor(value, dtype=torch.float32, device=self.device) for value in values])
        return self.accelerator.reduce(local, "sum").tolist()

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        return flag if self.world == 1 else self.sum([flag])[0] > 0

    def wait(self) -> None:
        """Until all processes have come this far; an error where one of them has failed (see `together`)."""
        exchange(None)

    def close(self) -> None:
        """Part from the other processes, after all have come this far.

        Networks that `prepare` wrapped must be gone, lest their end wait for a group whose end waits for them.
        """
        self.wait()
        self.accelerator.free_memory()
        self.accelerator.end_training()

    def scaler_state(self) -> dict | None:
        return self.accelerator.scaler.state_dict() if self.scales else None

    def load_scaler_state(self, state: dict | None) -> None:
        if self.scales and state:
            self.accelerator.scaler.load_state_dict(state)

    def memory_gib(self) -> float:
        """The most memory that tensors took on the device, or what this process takes on a CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        import psutil

        return psutil.Process().memory_info().rss / 2**30


def prepare_net(net: TiM, config: RunConfig) -> None:
    """Gradient checkpointing and compilation, in place; names of weights stay as they are."""
    if config.gradient_checkpointing:
        for block in net.blocks:
            block.forward = partial(checkpointed, block.forward)
    if config.compile:
        net.compile()


def checkpointed(forward, *inputs):
    """Call `forward`, keeping only its inputs for the backward pass; passes without gradient stay as they are."""
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False)


def random_state() -> dict[str, object]:
    """The generators of torch. Training draws from none of them (see `times`); what is added later may."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, object]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
