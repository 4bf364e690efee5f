"""One training run: its parts, its loop, what it reports and the state from which it goes on."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from tim_model.files import CheckpointError

from .cache import write_text
from .config import ConfigError, to_yaml
from .data import Batch
from .ema import EMA
from .encode import Share
from .engine import Engine, prepare_net, random_state, set_random_state
from .export import find_state, write_weights
from .learning_rate import learning_rate
from .logs import Logs, Meter
from .lora import add_lora
from .optimizer import make_optimizer
from .samples import draw_sheet, make_sheet
from .sections import Config
from .setup import Parts, build_net, build_parts, describe
from .state import States, read_state
from .step import StepLoss, held_out_loss

INTERRUPTED = 130  # exit status, as of a command stopped by Ctrl-C


class Run:
    """One run: its parts, its position and its loop.

    Raises:
        ValueError: anything that cannot be used, in one line, before a step is made.
    """

    def __init__(self, config: Config):
        self.config = config
        self.engine = Engine(config.run)
        self.folder = Path(config.run.folder)
        self.states = States(self.folder / "states", config.checkpoint.keep_last, config.checkpoint.keep_every)
        state = self.state_to_resume()
        self.parts = build_parts(config)
        self.share = Share(self.engine.rank, self.engine.world)
        self.parts.data.encode(config.sampling.prompts, self.engine.device, self.share)
        self.engine.wait()
        self.build(self.parts)
        self.step, self.seconds, self.failures = 0, 0.0, 0
        if state is not None:
            self.load_state(state)
        self.sheet = make_sheet(self.parts, config)
        self.meter = Meter()
        self.stop = False

    def build(self, parts: Parts) -> None:
        """Network, average, optimizer and objective on the device."""
        config, device = self.config, self.engine.device
        torch.manual_seed(config.run.seed)
        self.net = build_net(parts).to(device)
        if config.model.lora_rank:
            add_lora(self.net, config.model.lora_rank, config.model.lora_alpha)
        self.ema = EMA(self.net, config.ema.decay, config.ema.warmup)
        self.net.train()
        o = config.optimizer
        optimizer = make_optimizer(self.net, o.lr, tuple(o.betas), o.weight_decay, o.eps)
        prepare_net(self.net, config.run)
        self.wrapped, self.optimizer = self.engine.prepare(self.net, optimizer)
        self.loss = StepLoss(config, self.ema.net, parts.params.patch_size, device)

    def network(self, *inputs, **options) -> torch.Tensor:
        """The network; only passes with a gradient go through the wrapper that joins the processes."""
        return (self.wrapped if torch.is_grad_enabled() else self.net)(*inputs, **options)

    # ------------------------------------------------------------------ the loop

    def train(self) -> int:
        """Train to the last step; returns the exit status."""
        if self.engine.is_main:
            self.begin()
        self.listen()
        last = self.config.run.steps
        mark = time.perf_counter()
        with tqdm(total=last, initial=self.step, unit="step", disable=not self.engine.is_main) as bar:
            for batch in self.batches():
                self.advance(batch)
                bar.update()
                self.seconds, mark = self.seconds + time.perf_counter() - mark, time.perf_counter()
                self.report(bar)
                if self.step % self.config.checkpoint.every == 0 and self.step < last and not self.failures:
                    self.save()
                if self.interrupted() or self.out_of_time():
                    break
        return self.finish()

    def batches(self) -> Iterator[Batch]:
        """The batches of all steps to come; where one cannot be read, the steps before it are saved."""
        start = self.step
        try:
            yield from self.parts.data.batches(start, self.config.run.steps, self.share)
        except (OSError, ValueError):
            if self.step > start and not self.failures:
                self.save()
            raise

    def advance(self, batch: Batch) -> None:
        """One optimizer step."""
        start = time.perf_counter()
        lr = learning_rate(self.config.optimizer, self.step, self.config.run.steps, self.config.data.batch_size)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        passes = batch.to(self.engine.device).split(self.config.optimizer.accumulation)
        for i, part in enumerate(passes):
            with self.engine.joining(self.wrapped, last=i == len(passes) - 1), self.engine.autocast():
                out = self.loss(self.network, part, self.step)
                # processes average their gradients, so that this makes the mean over the whole batch
                share = part.count * self.engine.world / part.total
                total = self.loss.total(out) * share
            self.engine.backward(total)
            self.meter.add(out, part)
        norm = self.engine.clip(self.net, self.config.optimizer.clip)
        self.update(norm)
        self.step += 1
        self.meter.end_step(norm, lr, time.perf_counter() - start)

    def update(self, norm: float) -> None:
        """Move the weights, unless the gradient is not finite; too many of those in a row end the run."""
        finite = math.isfinite(norm)
        if finite or self.engine.scales:  # the gradient scaler skips such steps itself, and learns from them
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if finite:
            self.ema.update(self.net)
        self.failures = 0 if finite else self.failures + 1
        if self.failures >= self.config.run.max_nonfinite:
            raise self.diverged()

    def diverged(self) -> CheckpointError:
        good = self.states.newest()  # none is written while steps fail
        return CheckpointError(
            f"{self.failures} steps in a row without a finite gradient, near step {self.step}: stopped; "
            f"{f'the last good state is {good}' if good else 'there is no state yet'}; try a lower optimizer.lr"
        )

    def out_of_time(self) -> bool:
        limit = self.config.run.max_minutes * 60
        return bool(limit) and self.engine.any(self.seconds >= limit)

    def interrupted(self) -> bool:
        return self.engine.any(self.stop)

    def listen(self) -> None:
        """Let the first Ctrl-C or termination signal end the run after its step, with a state; the second at once."""

        def stop(number: int, frame: object) -> None:
            self.stop = True
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, stop)

    # ------------------------------------------------------------------ what the main process reports and writes

    def begin(self) -> None:
        """Prepare the run folder."""
        self.states.folder.mkdir(parents=True, exist_ok=True)
        self.states.set_aside(self.step)
        run = self.config.run
        self.logs = Logs(self.folder, self.step, run.tensorboard, run.wandb, asdict(self.config))
        write_text(self.folder / "config.yaml", to_yaml(self.config))
        write_text(self.folder / "data.txt", self.parts.dataset.table() + "\n")
        dropped = len(self.parts.dataset.dropped)
        print(f"data: {len(self.parts.dataset.samples)} samples, {dropped} dropped, see {self.folder / 'data.txt'}")
        print(describe(self.parts))
        print(f"processes: {self.engine.world}, device: {self.engine.device}")
        print(f"from step {self.step}" if self.step else "from step 0, a fresh run", f"in {self.folder}", flush=True)

    def report(self, bar: tqdm) -> None:
        """Numbers, held-out loss and sample sheet, each when its step has come."""
        run, last = self.config.run, self.step == self.config.run.steps or self.out_of_time()
        values = {}
        if self.step % run.log_every == 0 or last:
            values = self.meter.take(self.engine)
            values |= {"epoch": self.step / self.parts.data.batches_per_epoch, "minutes": self.seconds / 60}
            bar.set_postfix(loss=f"{values['denoising_loss']:.4f}", samples_per_s=f"{values['samples_per_second']:.1f}")
        if not self.engine.is_main:
            return
        if self.parts.data.held_out and (self.step % run.validate_every == 0 or last):
            values["held_out_loss"] = self.validate()
        if values:
            self.logs.write(self.step, values)
        every = self.config.sampling.every
        if self.sheet and every and (self.step % every == 0 or last):
            path = self.folder / "samples" / f"step-{self.step:08d}.png"
            if picture := draw_sheet(self.sheet, self.ema.net, self.engine.device, path):
                self.logs.picture(self.step, picture)

    def validate(self) -> float:
        size = -(-self.config.data.batch_size // self.config.optimizer.accumulation)
        batches = self.parts.data.held_out_batches(size)
        with self.engine.autocast():
            return held_out_loss(self.loss, self.ema.net, batches, self.engine.device)

    def finish(self) -> int:
        """Save the state and, where the run ends by its steps or its time, the weights; returns the exit status."""
        if self.failures:
            raise self.diverged()
        path = self.save()
        stopped = self.stop and self.step < self.config.run.steps
        if self.engine.is_main:
            self.logs.close()
            if stopped:
                print(f"stopped at step {self.step}; the same command goes on from {path}")
            else:
                self.write_weights(path)
        self.engine.close()
        return INTERRUPTED if stopped else 0

    def write_weights(self, path: Path) -> None:
        """The weights of a state, averaged and as trained."""
        state = read_state(path)
        for kind in ("ema", "raw"):
            print(f"wrote {write_weights(state, self.folder / f'{self.name}-{kind}.safetensors', kind)}")

    # ------------------------------------------------------------------ state

    @property
    def name(self) -> str:
        return "lora" if self.config.model.lora_rank else "model"

    def save(self) -> Path:
        """Write the state, by the main process alone."""
        if self.engine.is_main:
            self.states.save(self.state())
        return self.states.path(self.step)

    def state(self) -> dict:
        """Everything that the rest of the run depends on, and what its weights' file says."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "failures": self.failures,
            "net": self.trained(self.net.state_dict()),
            "ema": {"net": self.trained(self.ema.net.state_dict()), "updates": self.ema.updates},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.engine.scaler_state(),
            "random": random_state(),
            "params": self.parts.params.to_dict(),
            "lora": {"rank": self.config.model.lora_rank, "alpha": self.config.model.lora_alpha},
            "metadata": {**self.parts.metadata(self.config), "recipe": to_yaml(self.config)},
        }

    def trained(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights that training changes: with LoRA the updates alone."""
        names = {name for name, value in self.net.named_parameters() if value.requires_grad}
        return {name: value for name, value in weights.items() if name in names}

    def state_to_resume(self) -> dict | None:
        """The state that `resume` means, None for a fresh run."""
        resume, newest = self.config.resume, self.states.newest()
        told = find_state(Path(resume)) if resume not in ("auto", "none") else None
        if newest and resume != "auto" and (told is None or told.resolve() != newest.resolve()):
            advice = f"resume=auto goes on from {newest.name}, another run.folder leaves them alone"
            raise ConfigError(f"resume={resume}, but {self.states.folder} holds states: {advice}")
        if told or not newest:
            return read_state(told) if told else None
        state, problems = self.states.read_newest()
        for problem in problems if self.engine.is_main else ():
            print(f"{problem}: set aside, the run goes on from step {state['step']}")
        return state

    def load_state(self, state: dict) -> None:
        """Go on from a state of the same network; everything else may have changed in the config."""
        for key, found in (("params", self.parts.params.to_dict()), ("lora", self.state()["lora"])):
            if state[key] != found:
                raise ConfigError(f"the state of step {state['step']} has {key} {state[key]}, the config means {found}")
        if state["metadata"]["data_hash"] != self.parts.dataset.digest() and self.engine.is_main:
            print("the data has changed since the state was written: the order of samples is another one from here")
        self.net.load_state_dict({**self.net.state_dict(), **state["net"]})
        average = {**self.ema.net.state_dict(), **state["ema"]["net"]}
        self.ema.load_state_dict({"net": average, "updates": state["ema"]["updates"]})
        self.optimizer.load_state_dict(state["optimizer"])
        self.engine.load_scaler_state(state["scaler"])
        set_random_state(state["random"])
        self.step, self.seconds, self.failures = state["step"], state["seconds"], state["failures"]
