"""The processes of a run, set up by accelerate: devices, precision, sums over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import torch
from torch import Tensor

from ..config.load import ConfigError
from ..config.schema import RunConfig
from .precision import choose_precision, training_device
from .share import Share, exchange, started_processes

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class Processes:
    """The processes of a run; `accelerator` is accelerate's Accelerator.

    Raises:
        ConfigError: accelerate is missing, or its configuration is not supported.
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
        started = started_processes()
        if started != self.world:  # otherwise each of them would train and write the whole run
            raise ConfigError(f"{started} processes were started, but no GPUs found to join them: set run.cpu=true")

    @property
    def scales(self) -> bool:
        """Whether losses are scaled, as fp16 requires."""
        return self.accelerator.scaler is not None

    def sum(self, values: Sequence[float | Tensor]) -> list[float]:
        """Each value summed over the processes."""
        local = torch.stack([torch.as_tensor(value, dtype=torch.float32, device=self.device) for value in values])
        return self.accelerator.reduce(local, "sum").tolist()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag if self.world == 1 else self.sum([flag])[0] > 0

    def close(self) -> None:
        """Leave the process group after all processes have reached this point.

        Networks that the accelerator wrapped must be deleted before: they and the process group would wait for each
        other.
        """
        exchange(None)
        self.accelerator.free_memory()
        self.accelerator.end_training()

    def scaler_state(self) -> dict | None:
        return self.accelerator.scaler.state_dict() if self.scales else None

    def load_scaler_state(self, state: dict | None) -> None:
        if self.scales and state:
            self.accelerator.scaler.load_state_dict(state)

    def memory_gib(self) -> float:
        """The peak memory of tensors on the device, or the memory of this process on a CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        import psutil

        return psutil.Process().memory_info().rss / 2**30


def random_state() -> dict[str, object]:
    """The states of torch's generators. Training draws from none of them (see `Draws`)."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, object]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
