"""What training moves: the network, its average and its optimizer; one step of them, and what a state holds of them."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch

from .data import Batch
from .ema import EMA
from .engine import Engine, prepare_net, random_state, set_random_state
from .learning_rate import learning_rate
from .logs import Meter
from .lora import configured_lora, draw_dropout, lora_layers
from .optimizer import load_moments, make_optimizer
from .sections import Config
from .setup import Parts, build_net, frozen_dtype
from .step import StepLoss


class Learner:
    """Network, average, optimizer and objective on the device."""

    def __init__(self, config: Config, parts: Parts, engine: Engine):
        self.config, self.params, self.engine = config, parts.params, engine
        torch.manual_seed(config.run.seed)
        self.net = build_net(parts, frozen_dtype(config, engine.precision)).to(engine.device)
        if config.model.trains_lora:
            configured_lora(self.net, config.model)
        self.ema = EMA(self.net, config.ema.decay, config.ema.warmup)
        self.net.train()
        o = config.optimizer
        optimizer = make_optimizer(self.net, o.lr, tuple(o.betas), o.weight_decay, o.eps)
        prepare_net(self.net, config.run)
        self.wrapped, self.optimizer = engine.prepare(self.net, optimizer)
        self.loss = StepLoss(config, self.ema.net, self.params.patch_size, engine.device)

    def network(self, *inputs, **options) -> torch.Tensor:
        """The network; only passes with a gradient go through the wrapper that joins the processes."""
        return (self.wrapped if torch.is_grad_enabled() else self.net)(*inputs, **options)

    def sampling(self) -> AbstractContextManager:
        """In which the average draws: with LoRA in the precision of its frozen weights, else in float32."""
        return self.engine.autocast() if self.config.model.trains_lora else nullcontext()

    def close(self) -> None:
        """Part from the other processes, after all have come this far."""
        self.wrapped = self.net
        self.engine.close()

    # ------------------------------------------------------------------ one step

    def advance(self, batch: Batch, step: int, meter: Meter) -> tuple[float, float]:
        """One optimizer step, unless its gradient is not finite; returns the gradient's norm and the learning rate."""
        lr = learning_rate(self.config.optimizer, step, self.config.run.steps, self.config.data.batch_size)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        draw_dropout(self.net, self.config.run.seed, step)
        passes = batch.to(self.engine.device).split(self.config.optimizer.accumulation)
        for i, part in enumerate(passes):
            with self.engine.joining(self.wrapped, last=i == len(passes) - 1), self.engine.autocast():
                out = self.loss(self.network, part, step)
                # processes average their gradients, so that this makes the mean over the whole batch
                share = part.count * self.engine.world / part.total
                total = self.loss.total(out) * share
            self.engine.backward(total)
            meter.add(out, part)
        norm = self.engine.clip(self.net, self.config.optimizer.clip)
        self.update(norm)
        return norm, lr

    def update(self, norm: float) -> None:
        """Move the weights and their average, unless the gradient is not finite."""
        finite = math.isfinite(norm)
        if finite or self.engine.scales:  # the gradient scaler skips such steps itself, and learns from them
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if finite:
            self.ema.update(self.net)

    def finite(self) -> bool:
        """Whether the weights and their average hold no NaN and no infinity."""
        weights = [*self.net.parameters(), *self.ema.net.parameters()]
        return bool(torch.stack([value.detach().isfinite().all() for value in weights]).all())

    # ------------------------------------------------------------------ state

    def state(self) -> dict:
        """All that the next step depends on."""
        return {
            "net": self.trained(self.net.state_dict()),
            "ema": {"net": self.trained(self.ema.net.state_dict()), "updates": self.ema.updates},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.engine.scaler_state(),
            "random": random_state(),
            **self.architecture(),
        }

    def architecture(self) -> dict:
        """What a state must have in common with the network that takes it."""
        return {"params": self.params.to_dict(), "lora": {"layers": lora_layers(self.net)}}

    def trained(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights that training changes: with LoRA the updates alone."""
        names = {name for name, value in self.net.named_parameters() if value.requires_grad}
        return {name: value for name, value in weights.items() if name in names}

    def load_state(self, state: dict) -> list[str]:
        """Go on from a state of the same network (see `resume.check_network`).

        Returns, in lines, what has changed of the optimizer's settings.
        """
        self.net.load_state_dict({**self.net.state_dict(), **state["net"]})
        average = {**self.ema.net.state_dict(), **state["ema"]["net"]}
        self.ema.load_state_dict({"net": average, "updates": state["ema"]["updates"]})
        self.engine.load_scaler_state(state["scaler"])
        set_random_state(state["random"])
        return load_moments(self.optimizer, state["optimizer"])
