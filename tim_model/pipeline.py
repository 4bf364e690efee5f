"""From a prompt or a class to pictures, without a node graph."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .checkpoint import build_net, read_checkpoint
from .files import naming
from .labels import label_index
from .latents import LatentSpace, latent_shape
from .latents import default_size as layout_size
from .lora import Updates, merge_updates, read_loras
from .memory import DECODE_BYTES, ENCODE_BYTES, check_room, free_memory, network_bytes
from .net import TiM
from .noise import draw_noise
from .parts import check_parts
from .progressive import Stage, plan_stages, sample_progressively
from .rope import RopeScaling
from .schedule import make_times
from .text import TextEncoder, load_text_encoder, pad_features
from .tiles import decode_in_tiles, encode_in_tiles
from .vae import VAE, load_vae

ENLARGE = ("pixels", "latents")  # what grows from stage to stage


class Condition(NamedTuple):
    """What a batch shows and what guidance leans away from: text features (B,L,D) or labels (B,), of one shape."""

    context: Tensor
    null_context: Tensor | None  # None where nothing is guided


def best_device() -> torch.device:
    """CUDA (or ROCm) where there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """float32 on a CPU, bfloat16 elsewhere."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


class TiMPipeline:
    """A network and what it needs around it. Pictures are (B,3,H,W) in about [-1, 1].

    Args:
        space: where the network lives.
        default_size: (width, height) in pixels that the network is made for; by default that of its layout.
        text_encoder, vae: for text models, and for all models that do not live in pixel space.
        class_names: of a class model's labels, where known.
        reload_text_encoder: loads the text encoder again after `make_room` has freed it.

    Raises:
        ValueError: parts that do not fit together, or one that is missing.
    """

    def __init__(
        self,
        net: TiM,
        space: LatentSpace,
        text_encoder: TextEncoder | None = None,
        vae: VAE | None = None,
        class_names: Sequence[str] = (),
        reload_text_encoder: Callable[[], TextEncoder] | None = None,
        default_size: tuple[int, int] | None = None,
    ):
        check_parts(net, space, text_encoder, vae)
        self.net = net
        self.space = space
        self.text_encoder = text_encoder
        self.vae = vae
        self.class_names = class_names
        self.reload_text_encoder = reload_text_encoder
        self.default_size = default_size or layout_size(net.params, space)

    @classmethod
    def from_files(
        cls,
        model: str | os.PathLike,
        text_encoder: str | os.PathLike | None = None,
        vae: str | os.PathLike | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        loras: Sequence[tuple[str | os.PathLike, float]] = (),
    ) -> TiMPipeline:
        """Load the published files, or others in their formats.

        Args:
            model: TiM checkpoint.
            text_encoder: folder of google/gemma-3-1b-it, or one packed file; for text models.
            vae: DC-AE or SD-VAE in the layout of diffusers; for all but pixel-space models.
            device: the best there is by default.
            dtype: of network and VAE; by default bfloat16 on a GPU, float32 on a CPU. The text encoder keeps the
                dtype of its file.
            loras: files and strengths, which are merged into the network and, where they train it, the text encoder.

        Raises:
            ValueError: a file that cannot be used or is missing, in one line.
        """
        device = torch.device(device or best_device())
        dtype = dtype or default_dtype(device)
        checkpoint = read_checkpoint(model)
        updates, text_updates = read_loras(loras, checkpoint.state_dict)
        if text_updates and not text_encoder:
            raise ValueError("a LoRA has updates for a text encoder: expected the text encoder that they belong to")
        checkpoint = replace(checkpoint, state_dict=merge_updates(checkpoint.state_dict, updates, dtype))
        reload = partial(load_merged, text_encoder, device, text_updates) if text_encoder else None
        return cls(
            build_net(checkpoint, device, dtype),
            checkpoint.latent_space,
            reload() if reload else None,
            load_vae(vae, device, dtype) if vae else None,
            checkpoint.class_names,
            reload,
            checkpoint.default_size,
        )

    @property
    def device(self) -> torch.device:
        return self.net.x_embedder.proj.weight.device

    @property
    def unit(self) -> int:
        """Pixels of a token and side, which sides of pictures are multiples of."""
        return self.space.ratio * self.net.params.patch_size

    def text(self, prompts: str | Sequence[str], negative: str = "", guided: bool = True) -> Condition:
        """Features of `prompts` and of the negative prompt, padded to the longest of all.

        Args:
            guided: whether any step is guided; a negative that nobody looks at pads nothing.
        """
        prompts = as_list(prompts)
        if self.net.params.context_dim is None:
            raise ValueError("this is a class model: give it classes instead of prompts")
        self.text_encoder = self.text_encoder or self.reload_text_encoder()
        texts = [*prompts, negative] if guided else prompts
        distinct = list(dict.fromkeys(texts))  # a batch of one prompt is encoded once
        features = pad_features(self.text_encoder.encode(distinct), self.text_encoder.pad_feature).to(self.device)
        context = features[[distinct.index(prompt) for prompt in prompts]]
        return Condition(context, features[distinct.index(negative)].expand_as(context) if guided else None)

    def classes(self, names: str | Sequence[str]) -> Condition:
        """Labels of class names or numbers."""
        num_classes = self.net.params.num_classes
        if num_classes is None:
            raise ValueError("this is a text model: give it prompts instead of classes")
        labels = torch.tensor([label_index(name, num_classes, self.class_names) for name in as_list(names)])
        return Condition(labels.to(self.device), torch.full_like(labels, num_classes).to(self.device))

    def noise(self, size: tuple[int, int], batch: int, seed: int) -> Tensor:
        """The start of sampling for `batch` pictures of (width, height) pixels."""
        shape = latent_shape(self.space, self.net.params.patch_size, *size, batch)
        return draw_noise(shape, seed).to(self.device)

    def check_room(self, batch: int, width: int, height: int) -> None:
        """ValueError for pictures that the device cannot hold at all; see `memory.check_room`."""
        check_room(self.net.params, batch, width, height, self.space.ratio, self.device)

    def make_room(self, shape: Sequence[int]) -> None:
        """Free the text encoder if memory is short for sampling latents of `shape`; the next prompt loads it again."""
        batch, _, height, width = shape
        dtype = self.net.x_embedder.proj.weight.dtype
        sampling = network_bytes(self.net.params, 2 * batch, height, width, dtype)
        pixels = batch * height * width * self.space.ratio**2
        coding = max(ENCODE_BYTES, DECODE_BYTES) * pixels * dtype.itemsize if self.vae else 0
        if self.reload_text_encoder and free_memory(self.device) < max(sampling, coding):
            self.text_encoder = None

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents, in tiles where memory is short; in pixel space they are pictures already."""
        return latents if self.vae is None else decode_in_tiles(self.vae, latents)

    def encode(self, images: Tensor) -> Tensor:
        """Latents of pictures, in tiles where memory is short."""
        return images if self.vae is None else encode_in_tiles(self.vae, images)

    def plan(self, size: tuple[int, int], **options) -> list[Stage]:
        """The stages to (width, height) pixels from the size that the model is made for; options of `plan_stages`."""
        return plan_stages(*size, self.unit, **{"base_pixels": math.prod(self.default_size), **options})

    @contextmanager
    def rope_scaled(self, kind: str) -> Iterator[None]:
        """Inside, rotations of pictures beyond the size that the model is made for are scaled; see `RopeScaling`."""
        before = self.net.rope_scaling
        self.net.rope_scaling = RopeScaling(kind, self.default_size[0] // self.unit)
        try:
            yield
        finally:
            self.net.rope_scaling = before

    def paint(
        self,
        condition: Condition,
        stages: Sequence[Stage],
        *,
        seed: int = 0,
        rope: str = "none",
        enlarge: str = "pixels",
        **sampling,
    ) -> Tensor:
        """One picture for each row of the condition, through `stages`; of one alone all of `sample` can be used.

        Args:
            rope: a name in `ROPE_SCALINGS`.
            enlarge: what grows from stage to stage, "pixels" or "latents".
            sampling: further arguments of `sample`.
        """
        if enlarge not in ENLARGE:
            raise ValueError(f"enlarge={enlarge!r}: expected one of {', '.join(ENLARGE)}")
        for stage in stages:
            batch = len(condition.context)
            self.check_room(batch, stage.width, stage.height)
            self.make_room(latent_shape(self.space, self.net.params.patch_size, stage.width, stage.height, batch))
        vae = self if enlarge == "pixels" else None
        with self.rope_scaled(rope):
            latents = sample_progressively(
                self.net, stages, *condition, space=self.space, seed=seed, vae=vae, **sampling
            )
        return self.decode(latents)

    def __call__(
        self,
        prompts: str | Sequence[str] | None = None,
        negative: str = "",
        classes: str | Sequence[str] | None = None,
        *,
        steps: int = 4,
        times: Sequence[float] | None = None,
        size: tuple[int, int] | None = None,
        seed: int = 0,
        cfg: float = 2.5,
        stages: Sequence[Stage] | None = None,
        **options,
    ) -> Tensor:
        """One picture for each prompt of a text model, or each class (number or name) of a class model.

        Args:
            negative: what guidance leans away from; the empty prompt as published.
            steps: equal ones; `times`, from `make_times` or your own, replaces them.
            size: (width, height) in pixels; by default the size that the model is made for.
            stages: sizes and times for pictures larger than that, from `plan`; they replace size, steps and times.
            options: of `paint`, such as rope, and further arguments of `sample`, such as guidance_interval.

        Raises:
            ValueError: anything that does not fit the model, in one line.
        """
        if (prompts is None) == (classes is None):
            raise ValueError("expected prompts for a text model, or classes for a class model")
        if stages is not None and (size or times):
            raise ValueError("stages have sizes and times of their own: leave size and times out")
        condition = self.classes(classes) if prompts is None else self.text(prompts, negative, cfg > 1)
        if stages is None:
            stages = [Stage(*(size or self.default_size), tuple(times or make_times("uniform", steps)))]
        return self.paint(condition, stages, seed=seed, cfg=cfg, **options)


def as_list(texts: str | Sequence[str]) -> list[str]:
    """One text as a list of one; ValueError for an empty list."""
    if not texts and not isinstance(texts, str):
        raise ValueError(f"{texts!r}: expected a text, or a list of texts, one for each picture")
    return [texts] if isinstance(texts, str) else list(texts)


def load_merged(path: str | os.PathLike, device: torch.device, updates: Sequence[tuple[Updates, float]]) -> TextEncoder:
    """The text encoder of `path` with updates of LoRAs in it."""
    encoder = load_text_encoder(path, device)
    if updates:
        with naming(path):
            weights = merge_updates(encoder.model.state_dict(), updates)
        encoder.model.load_state_dict(weights, assign=True)
        encoder.model.requires_grad_(False)
    return encoder
