"""A demo stack: its training stages and the paths of its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Stage = tuple[Path, Sequence[object]]  # a result, and the module with arguments that makes it


@dataclass(frozen=True)
class Stack:
    """A stack of VAE, text encoder and network, each trained by its recipe.

    Args:
        recipes: the folder of autoencoder.yaml, language_model.yaml and tim.yaml.
        runs: the run folders of the recipes.
        data: default source folder of the images.
        sources: makes the first stages, up to images and classifier, from that folder.
        text_encoder, classifier: output files of stages.
        files: final paths: "model", "text_encoder", "vae", "classifier".
        decoder, velocity, transitions, few_steps: run.steps of the stages that override their recipe.
    """

    recipes: Path
    runs: Path
    data: Path
    sources: Callable[[Path], list[Stage]]
    text_encoder: Path
    classifier: Path
    files: Mapping[str, Path]
    decoder: int
    velocity: int
    transitions: int
    few_steps: int

    def weights(self, stage: str) -> Path:
        """The weights that a stage of network training writes."""
        return self.runs / stage / "model-ema.safetensors"

    @property
    def network(self) -> Path:
        """The final weights of the network."""
        return self.weights("few_steps")

    @property
    def vae(self) -> Path:
        """The final VAE, a folder."""
        return self.runs / "decoder"

    def decoder_stage(self) -> list[str]:
        """Train the decoder alone: latents do not change, so a network works with either decoder."""
        return [
            f"run.decoder_of={self.runs / 'autoencoder'}", "optimizer.lr=1e-3", "run.seed=1",
            f"run.steps={self.decoder}", f"run.folder={self.vae}",
        ]  # fmt: skip

    def velocity_stage(self) -> list[str]:
        """Flow matching first: it learns captions in half the time; TiM then learns transitions."""
        return [
            "objective.name=flow_matching", "objective.guided=false", "objective.P_mean=0", "optimizer.lr=2e-3",
            "optimizer.warmup=300", "run.seed=0", f"run.steps={self.velocity}", f"run.folder={self.runs / 'velocity'}",
        ]  # fmt: skip

    def transitions_stage(self) -> list[str]:
        """A shorter run of the recipe, from which the main run starts."""
        return [
            f"model.checkpoint={self.weights('velocity')}", "objective.P_mean=0", "objective.consistency_ratio=0.1",
            "optimizer.warmup=100", "run.seed=1", f"run.steps={self.transitions}",
            f"run.folder={self.runs / 'transitions'}",
        ]  # fmt: skip

    def few_steps_stage(self) -> list[str]:
        """Train long transitions, which TiM's target teaches slowest because its variance is largest there.

        Each one is trained to equal two shorter ones of the same network (benchmarks/target_scatter.py).
        """
        return [
            f"model.checkpoint={self.weights('tim')}", "objective.name=split_meanflow", "objective.P_mean=0.8",
            "objective.diffusion_ratio=0.4", "objective.consistency_ratio=0.3", "optimizer.lr=1e-3", "run.seed=3",
            f"run.steps={self.few_steps}", f"run.folder={self.network.parent}",
        ]  # fmt: skip

    def stages(self, data: Path) -> list[Stage]:
        """All stages in order, starting from the folder `data`."""
        autoencoder, network = self.recipes / "autoencoder.yaml", self.recipes / "tim.yaml"
        started = f"model.checkpoint={self.weights('transitions')}"
        return [
            *self.sources(data),
            (self.runs / "autoencoder" / "config.json", ["training.autoencoder", autoencoder]),
            (self.vae / "config.json", ["training.autoencoder", autoencoder, *self.decoder_stage()]),
            (self.text_encoder, ["training.language_model", self.recipes / "language_model.yaml"]),
            (self.weights("velocity"), ["training.train", network, *self.velocity_stage()]),
            (self.weights("transitions"), ["training.train", network, *self.transitions_stage()]),
            (self.weights("tim"), ["training.train", network, started]),
            (self.network, ["training.train", network, *self.few_steps_stage()]),
        ]
