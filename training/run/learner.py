"""The trained network, its EMA and its optimizer: one step, and their part of a state."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from tim_model import TiM

from ..components.parts import Parts, build_net, frozen_dtype
from ..components.teacher import build_teacher
from ..config.schema import Config, RunConfig
from ..data.batches import Batch
from ..optim.ema import EMA
from ..optim.learning_rate import learning_rate
from ..optim.lora import configured_lora, draw_dropout, lora_layers
from ..optim.named import configured_optimizer
from ..optim.optimizer import load_moments
from ..processes.processes import Processes, random_state, set_random_state
from ..processes.share import exchange
from .logs import Meter
from .step_loss import StepLoss


class Learner:
    """Network, EMA, optimizer and objective on the device."""

    def __init__(self, config: Config, parts: Parts, processes: Processes):
        self.config, self.params, self.processes = config, parts.params, processes
        self.accelerator = processes.accelerator
        torch.manual_seed(config.run.seed)
        self.net = build_net(parts, frozen_dtype(config, processes.precision)).to(processes.device)
        if config.model.trains_lora:
            configured_lora(self.net, config.model)
        self.ema = EMA(self.net, config.ema.decay, config.ema.warmup)
        self.net.train()
        optimizer = configured_optimizer(self.net, config.optimizer)
        prepare_net(self.net, config.run)
        exchange(None)  # all processes reach this point or all end: from here on networks communicate
        self.wrapped, self.optimizer = self.accelerator.prepare(self.net, optimizer)
        teacher = build_teacher(parts.teacher, processes.device) if parts.teacher else None
        self.loss = StepLoss(config, self.ema.net, self.params.patch_size, processes.device, teacher)

    def sampling(self) -> AbstractContextManager:
        """The precision in which the EMA network samples: with LoRA that of its frozen weights, else float32."""
        return self.accelerator.autocast() if self.config.model.trains_lora else nullcontext()

    def close(self) -> None:
        """Leave the process group after all processes have reached this point."""
        self.wrapped = self.net
        self.processes.close()

    # ------------------------------------------------------------------ one step

    def advance(self, batch: Batch, step: int, meter: Meter) -> tuple[float, float]:
        """One optimizer step, unless its gradient is not finite; returns the gradient's norm and the learning rate."""
        lr = learning_rate(self.config.optimizer, step, self.config.run.steps, self.config.data.batch_size)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        draw_dropout(self.net, self.config.run.seed, step)
        passes = batch.to(self.processes.device).split(self.config.optimizer.accumulation)
        for i, part in enumerate(passes):
            # gradients are averaged over the processes in the last pass of a step
            joining = nullcontext() if i == len(passes) - 1 else self.accelerator.no_sync(self.wrapped)
            with joining, self.accelerator.autocast():
                out = self.loss(self.net, part, step, self.wrapped)
                # makes that average the mean over the whole batch
                share = part.count * self.processes.world / part.total
                total = self.loss.total(out) * share
            self.accelerator.backward(total)
            meter.add(out, part)
        trained = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        norm = float(self.accelerator.clip_grad_norm_(trained, self.config.optimizer.clip))
        self.update(norm)
        return norm, lr

    def update(self, norm: float) -> None:
        """Update the weights and their EMA, unless the gradient is not finite."""
        finite = math.isfinite(norm)
        if finite or self.processes.scales:  # the gradient scaler skips such steps itself and adapts its scale
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if finite:
            self.ema.update(self.net)

    def finite(self) -> bool:
        """Whether the weights and their EMA are finite."""
        weights = [*self.net.parameters(), *self.ema.net.parameters()]
        return bool(torch.stack([value.detach().isfinite().all() for value in weights]).all())

    # ------------------------------------------------------------------ state

    def state(self) -> dict:
        """Everything that the next step depends on."""
        return {
            "net": self.trained(self.net.state_dict()),
            "ema": {"net": self.trained(self.ema.net.state_dict()), "updates": self.ema.updates},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.processes.scaler_state(),
            "random": random_state(),
            **self.architecture(),
        }

    def architecture(self) -> dict:
        """The properties of a state that must match the network."""
        return {"params": self.params.to_dict(), "lora": {"layers": lora_layers(self.net)}}

    def trained(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The trained weights; with LoRA only the updates."""
        names = {name for name, value in self.net.named_parameters() if value.requires_grad}
        return {name: value for name, value in weights.items() if name in names}

    def load_state(self, state: dict) -> list[str]:
        """Load a state of the same network (see `resume.check_network`).

        Returns a line for each changed setting of the optimizer.
        """
        self.net.load_state_dict({**self.net.state_dict(), **state["net"]})
        average = {**self.ema.net.state_dict(), **state["ema"]["net"]}
        self.ema.load_state_dict({"net": average, "updates": state["ema"]["updates"]})
        self.processes.load_scaler_state(state["scaler"])
        set_random_state(state["random"])
        return load_moments(self.optimizer, state["optimizer"])


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
