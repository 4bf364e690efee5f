"""The run that trains a small DC-AE."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from tim_model import load_vae
from tim_model.files.tensor_files import atomic, write_text
from tim_model.images import grid, to_pictures
from tim_model.vae.autoencoder import VAE

from ..config.load import ConfigError, to_yaml
from ..data.open_dataset import open_dataset
from ..objectives.draws import Draws
from ..optim.budget import Budget
from ..optim.ema import EMA
from ..optim.learning_rate import learning_rate
from ..optim.named import configured_optimizer
from ..optim.optimizer import load_moments
from ..processes.lock import RunLock
from ..processes.precision import choose_precision, describe_precision, slower_bf16
from ..processes.signals import StopSignals
from ..states.states import States
from .batches import Images
from .config import AutoencoderConfig
from .loss import NOISE, AutoencoderLoss, Quality, autoencoder_loss, measure
from .network import build_net, decoder_of, write_autoencoder

SHEET = 8  # images in a row of a sheet


class AutoencoderRun:
    """One run: data, network, EMA, optimizer, progress and loop.

    Raises:
        ValueError: bad input, in one line, before the first step.
    """

    def __init__(self, config: AutoencoderConfig):
        self.config, self.folder = config, Path(config.run.folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() and not config.run.cpu else "cpu")
        self.states = States(self.folder / "states", config.checkpoint.keep_last, config.checkpoint.keep_every)
        self.dataset = open_dataset(config.data, config.model.ratio, 1, remember=True)
        if self.dataset.latent:
            raise ConfigError(f"{config.data.place}: holds latents, expected images")
        self.images = Images(self.dataset, config.data, config.run.seed)
        torch.manual_seed(config.run.seed)
        net = decoder_of(config) if config.run.decoder_of else build_net(config.model)
        self.net = net.to(self.device).train()
        self.ema = EMA(self.net, config.ema.decay, config.ema.warmup)
        self.optimizer = configured_optimizer(self.net, config.optimizer)
        self.step, self.seconds, self.stop = 0, 0.0, StopSignals()
        self.found = self.states.newest()
        if self.found:
            state, problems = self.states.read_newest()
            for problem in problems:
                print(f"{problem}: set aside, the run goes on from step {state['step']}")
            self.load_state(state)

    def train(self) -> Path:
        """Train to the last step, or until the time is up; returns the folder with the weights.

        Raises:
            ConfigError: another run works in the folder.
            KeyboardInterrupt: a signal has stopped the run; its state is saved.
        """
        self.states.folder.mkdir(parents=True, exist_ok=True)
        with RunLock(self.folder):
            if self.states.newest() != self.found:
                raise ConfigError(f"run.folder={self.folder}: another run has written into it; start again")
            if self.step >= self.config.run.steps:
                at = f"{self.folder} is at step {self.step}, run.steps={self.config.run.steps}"
                print(f"nothing was trained: {at}; a larger run.steps goes on, another run.folder starts another run")
                return self.write()
            self.stop.install()
            self.loop()
            return self.write()

    def loop(self) -> None:
        """Run steps until the last one, a signal or the time limit; a step's state is saved before its sheet."""
        self.states.set_aside(self.step)
        write_text(self.folder / "config.yaml", to_yaml(self.config))
        weights = sum(parameter.numel() for parameter in self.net.parameters())
        print(f"{len(self.dataset.samples)} images, {len(self.dataset.dropped)} dropped; {weights:,} weights")
        run, mark, start = self.config.run, time.perf_counter(), (self.step, self.seconds)
        precision = describe_precision(run.precision, self.device)
        print(f"from step {self.step} in {self.folder}, device: {self.device}, precision: {precision}", flush=True)
        budget = self.budget()
        for images in self.images.batches(self.step, run.steps):
            try:
                loss = self.advance(images.to(self.device))
            except RuntimeError:  # a non-finite gradient or no memory: save the earlier steps
                self.save()
                raise
            self.seconds, mark = self.seconds + time.perf_counter() - mark, time.perf_counter()
            if warning := budget.warning(self.step, self.seconds):
                print(warning, flush=True)
            if self.step % run.log_every == 0:
                rate = (self.step - start[0]) / (self.seconds - start[1]) * self.config.data.batch_size
                self.log(loss, rate)
            if self.stop.received or self.step % self.config.checkpoint.every == 0:
                self.save()
            if self.images.held_out and self.step % run.validate_every == 0:
                self.stop.unless(self.validate)
            if self.stop.received:
                self.save()
                raise KeyboardInterrupt
            if run.max_minutes and self.seconds >= run.max_minutes * 60:
                break
        self.save()
        if cut := budget.closing(self.step, self.seconds):
            print(cut)

    def budget(self) -> Budget:
        run = self.config.run
        advice = "run.precision=auto" if slower_bf16(run.precision, self.device) else ""
        return Budget(run.steps, run.max_minutes, self.config.optimizer, self.config.data.batch_size, advice)

    def advance(self, images: Tensor) -> AutoencoderLoss:
        """One optimizer step; RuntimeError if the gradient is not finite."""
        o, run = self.config.optimizer, self.config.run
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(o, self.step, run.steps, self.config.data.batch_size)
        draws = Draws(run.seed, self.step, range(len(images)))
        bf16 = choose_precision(run.precision, self.device) == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            loss = autoencoder_loss(self.net, images, self.config.loss, draws)
        loss.total.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), o.clip, error_if_nonfinite=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.net)
        self.step += 1
        return loss

    # ------------------------------------------------------------------ reports and files

    def log(self, loss: AutoencoderLoss, rate: float) -> None:
        """Print the numbers of a step in one line."""
        parts = "  ".join(f"{name} {value.item():.4f}" for name, value in vars(loss).items())
        steps = f"step {self.step}/{self.config.run.steps}"
        print(f"{steps}  {parts}  {rate:.1f} samples/s  {self.seconds / 60:.1f} min", flush=True)

    def validate(self) -> None:
        """Print the quality of the EMA weights on held-out images, and write a sheet of reconstructions."""
        vae = VAE(self.ema.net)
        print(f"step {self.step}  {describe(measure(vae, self.held_out()))}", flush=True)
        path = self.folder / "samples" / f"step-{self.step:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        images = next(self.held_out())[:SHEET]
        rows = [to_pictures(images), to_pictures(vae.decode(vae.encode(images)))]
        with atomic(path) as temporary:
            grid(rows, ["originals", "reconstructions"]).save(temporary, format="PNG")

    def held_out(self) -> Iterator[Tensor]:
        return (images.to(self.device) for images in self.images.held_out_batches())

    def write(self) -> Path:
        """Write the EMA weights in diffusers' layout, read them back and print their quality; returns the folder."""
        write_autoencoder(self.ema.net, self.folder)
        vae = load_vae(self.folder, self.device)
        if self.images.held_out:
            print(describe(measure(vae, self.held_out())))
        return self.folder

    # ------------------------------------------------------------------ state

    def save(self) -> None:
        """Write the state, which holds everything that later steps depend on, unless it exists."""
        if self.states.path(self.step).is_file():
            return
        self.states.save({
            "step": self.step,
            "seconds": self.seconds,
            "model": asdict(self.config.model),
            "data": self.dataset.digest(),
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        })  # fmt: skip

    def load_state(self, state: dict) -> None:
        """Resume from a state of the same architecture; all other settings may have changed."""
        if state.get("model") != asdict(self.config.model):
            found = f"the state has the model {state.get('model')}, the config means {asdict(self.config.model)}"
            raise ConfigError(f"run.folder={self.folder}: {found}; name another folder")
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        if state.get("data", self.dataset.digest()) != self.dataset.digest():
            print(f"the data is not that of the state of step {state['step']}; another run.folder starts another run")
        for line in load_moments(self.optimizer, state["optimizer"]):
            print(line)
        self.step, self.seconds = state["step"], state["seconds"]


def describe(quality: Quality) -> str:
    """The quality on held-out images in one line."""
    mean, std = (f"{float(value.min()):.2f} to {float(value.max()):.2f}" for value in (quality.mean, quality.std))
    noisy = f"{quality.noisy_psnr:.2f} dB with noise {NOISE} on latents"
    return f"held out: PSNR {quality.psnr:.2f} dB, SSIM {quality.ssim:.3f}, {noisy}; channels' mean {mean}, std {std}"
