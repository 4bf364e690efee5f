"""Train a small DC-AE: python -m training.autoencoder RECIPE.yaml [key=value ...]

The run folder becomes a VAE in diffusers' layout. The same command goes on where a run was stopped or killed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from tim_model import load_vae
from tim_model.dcae import infer_dcae_config
from tim_model.files import CheckpointError, atomic, one_line, write_safetensors
from tim_model.pictures import grid, to_pictures
from tim_model.vae import VAE, WEIGHTS, diffusers_class

from .autoencoder_config import ArchitectureConfig, AutoencoderConfig, load_autoencoder_config
from .autoencoder_loss import NOISE, AutoencoderLoss, Quality, autoencoder_loss, measure
from .autoencoder_pictures import Pictures
from .budget import Budget
from .cache import index_path, write_text
from .config import ConfigError, to_yaml
from .datasets import open_dataset
from .ema import EMA
from .learning_rate import learning_rate
from .optimizer import make_optimizer
from .precision import choose_precision, describe_precision, slower_bf16
from .run import INTERRUPTED
from .state import States
from .times import Draws

SHEET = 8  # pictures in a row of a sheet


class AutoencoderRun:
    """One run: data, network, average, optimizer, its position and its loop.

    Raises:
        ValueError: anything that cannot be used, in one line, before a step is made.
    """

    def __init__(self, config: AutoencoderConfig):
        self.config, self.folder = config, Path(config.run.folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() and not config.run.cpu else "cpu")
        self.states = States(self.folder / "states", config.checkpoint.keep_last, config.checkpoint.keep_every)
        self.dataset = open_dataset(config.data, config.model.ratio, 1, index_path(config.data.cache, config.data.path))
        if self.dataset.latent:
            raise ConfigError(f"data.path={config.data.path}: holds latents, expected pictures")
        self.pictures = Pictures(self.dataset, config.data, config.run.seed)
        torch.manual_seed(config.run.seed)
        net = decoder_of(config) if config.run.decoder_of else build_net(config.model)
        self.net = net.to(self.device).train()
        self.ema = EMA(self.net, config.ema.decay, config.ema.warmup)
        o = config.optimizer
        self.optimizer = make_optimizer(self.net, o.lr, tuple(o.betas), o.weight_decay, o.eps)
        self.step, self.seconds = 0, 0.0
        if self.states.newest():
            state, problems = self.states.read_newest()
            for problem in problems:
                print(f"{problem}: set aside, the run goes on from step {state['step']}")
            self.load_state(state)

    def train(self) -> Path:
        """Train to the last step, or until the time is up; returns the folder with the weights."""
        self.states.set_aside(self.step)
        write_text(self.folder / "config.yaml", to_yaml(self.config))
        weights = sum(parameter.numel() for parameter in self.net.parameters())
        print(f"{len(self.dataset.samples)} pictures, {len(self.dataset.dropped)} dropped; {weights:,} weights")
        run, mark, start = self.config.run, time.perf_counter(), (self.step, self.seconds)
        precision = describe_precision(run.precision, self.device)
        print(f"from step {self.step} in {self.folder}, device: {self.device}, precision: {precision}", flush=True)
        budget = self.budget()
        for images in self.pictures.batches(self.step, run.steps):
            loss = self.advance(images.to(self.device))
            self.seconds, mark = self.seconds + time.perf_counter() - mark, time.perf_counter()
            if warning := budget.warning(self.step, self.seconds):
                print(warning, flush=True)
            if self.step % run.log_every == 0:
                rate = (self.step - start[0]) / (self.seconds - start[1]) * self.config.data.batch_size
                self.log(loss, rate)
            if self.pictures.held_out and self.step % run.validate_every == 0:
                self.validate()
            if self.step % self.config.checkpoint.every == 0:
                self.save()
            if run.max_minutes and self.seconds >= run.max_minutes * 60:
                break
        self.save()
        if cut := budget.closing(self.step, self.seconds):
            print(cut)
        return self.write()

    def budget(self) -> Budget:
        run = self.config.run
        advice = "run.precision=auto" if slower_bf16(run.precision, self.device) else ""
        return Budget(run.steps, run.max_minutes, self.config.optimizer, self.config.data.batch_size, advice)

    def advance(self, images: Tensor) -> AutoencoderLoss:
        """One optimizer step; RuntimeError where the gradient is not finite."""
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

    # ------------------------------------------------------------------ what a run reports and writes

    def log(self, loss: AutoencoderLoss, rate: float) -> None:
        """One line of numbers."""
        parts = "  ".join(f"{name} {value.item():.4f}" for name, value in vars(loss).items())
        steps = f"step {self.step}/{self.config.run.steps}"
        print(f"{steps}  {parts}  {rate:.1f} samples/s  {self.seconds / 60:.1f} min", flush=True)

    def validate(self) -> None:
        """The quality of the average on held-out pictures, and a sheet of them above their reconstructions."""
        vae = VAE(self.ema.net)
        print(f"step {self.step}  {describe(measure(vae, self.held_out()))}", flush=True)
        path = self.folder / "samples" / f"step-{self.step:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        images = next(self.held_out())[:SHEET]
        rows = [to_pictures(images), to_pictures(vae.decode(vae.encode(images)))]
        with atomic(path) as temporary:
            grid(rows, ["originals", "reconstructions"]).save(temporary, format="PNG")

    def held_out(self) -> Iterator[Tensor]:
        return (images.to(self.device) for images in self.pictures.held_out_batches())

    def write(self) -> Path:
        """Write the average in diffusers' layout, read it back and report its quality; returns the folder."""
        write_autoencoder(self.ema.net, self.folder)
        vae = load_vae(self.folder, self.device)
        if self.pictures.held_out:
            print(describe(measure(vae, self.held_out())))
        return self.folder

    # ------------------------------------------------------------------ state

    def save(self) -> None:
        """Write the state: everything that the rest of the run depends on."""
        self.states.save({
            "step": self.step,
            "seconds": self.seconds,
            "model": asdict(self.config.model),
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        })  # fmt: skip

    def load_state(self, state: dict) -> None:
        """Go on from a state of the same architecture; everything else may have changed in the config."""
        if state.get("model") != asdict(self.config.model):
            found = f"the state has the model {state.get('model')}, the config means {asdict(self.config.model)}"
            raise ConfigError(f"run.folder={self.folder}: {found}; name another folder")
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


def decoder_of(config: AutoencoderConfig) -> nn.Module:
    """The AutoencoderDC in `run.decoder_of`, float32, its encoder frozen.

    Raises:
        ConfigError: the file holds another architecture than the recipe's.
    """
    net, path = build_net(config.model), config.run.decoder_of
    found = load_vae(path, dtype=torch.float32).model.state_dict()
    if {name: value.shape for name, value in found.items()} != {n: v.shape for n, v in net.state_dict().items()}:
        raise ConfigError(f"run.decoder_of={path}: is of another architecture, expected that of model")
    net.load_state_dict(found)
    net.encoder.requires_grad_(False)
    return net


def build_net(config: ArchitectureConfig) -> nn.Module:
    """diffusers' AutoencoderDC of new weights.

    Raises:
        ConfigError: the architecture is none, or one that its weights alone do not tell.
    """
    try:
        net = diffusers_class("AutoencoderDC")(**config.arguments())
        with torch.no_grad():
            net(torch.zeros(1, 3, config.ratio, config.ratio))  # widths that do not fit show here
        infer_dcae_config({name: tuple(value.shape) for name, value in net.state_dict().items()})
        return net
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, CheckpointError) as error:
        raise ConfigError(f"model: makes no AutoencoderDC ({one_line(error)})") from None


def write_autoencoder(net: nn.Module, folder: Path) -> None:
    """Write an AutoencoderDC as diffusers does, each file whole or not at all."""
    state_dict = {name: value.contiguous() for name, value in net.state_dict().items()}
    write_safetensors(state_dict, folder / WEIGHTS, {"format": "pt"})
    with atomic(folder / "config.json") as temporary:
        net.to_json_file(temporary)


def describe(quality: Quality) -> str:
    """One line on what an autoencoder makes of held-out pictures."""
    mean, std = (f"{float(value.min()):.2f} to {float(value.max()):.2f}" for value in (quality.mean, quality.std))
    noisy = f"{quality.noisy_psnr:.2f} dB with noise {NOISE} on latents"
    return f"held out: PSNR {quality.psnr:.2f} dB, {noisy}; channels' mean {mean}, std {std}"


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. What cannot be done is one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.autoencoder", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path, help="a .yaml file, such as training/recipes/demo/autoencoder.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as optimizer.lr=1e-3 data.path=photos")
    arguments = parser.parse_args(argv)
    try:
        print(f"wrote {AutoencoderRun(load_autoencoder_config(arguments.recipe, arguments.overrides)).train()}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the newest state", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
