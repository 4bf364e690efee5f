"""From a prompt or a class to images, without a node graph."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .latents import sample_latents
from .loading import load_parts
from .network.labels import label_index
from .network.latent_space import LatentSpace, latent_shape
from .network.latent_space import default_size as layout_size
from .network.memory import DECODE_BYTES, ENCODE_BYTES, check_room, free_memory, network_bytes
from .network.rope import RopeScaling
from .network.tim import TiM
from .parts import check_parts
from .request import Request, as_texts, gather
from .sampling.noise import draw_noise
from .sampling.progressive import Stage, plan_stages
from .sampling.sampler import Condition, Step
from .text.encoder import TextEncoder, pad_features
from .vae.autoencoder import VAE
from .vae.tiled_vae import TiledVAE


class TiMPipeline:
    """A network and what it needs around it. Images are (B,3,H,W) in about [-1, 1].

    Args:
        space: the network's latent space.
        default_size: native (width, height) in pixels; by default that of the network's layout.
        size_is_largest: whether training had no larger area than the native size.
        text_encoder, vae: for text models, and for all models but those in pixel space.
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
        size_is_largest: bool = False,
    ):
        check_parts(net, space, text_encoder, vae)
        self.net = net
        self.space = space
        self.text_encoder = text_encoder
        self.vae = vae
        self.class_names = class_names
        self.reload_text_encoder = reload_text_encoder
        self.default_size = default_size or layout_size(net.params, space)
        self.size_is_largest = size_is_largest

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
        return cls(**load_parts(model, text_encoder, vae, device, dtype, loras))

    @property
    def device(self) -> torch.device:
        return self.net.x_embedder.proj.weight.device

    @property
    def unit(self) -> int:
        """Pixels of a token and side, which sides of images are multiples of."""
        return self.space.ratio * self.net.params.patch_size

    def text(self, prompts: str | Sequence[str], negative: str = "", guided: bool = True) -> Condition:
        """Features of `prompts` and of the negative prompt, padded to the longest of all.

        Args:
            guided: whether any step is guided; an unused negative prompt does not lengthen the padding.
        """
        prompts = list(as_texts(prompts))
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
        labels = torch.tensor([label_index(name, num_classes, self.class_names) for name in as_texts(names)])
        return Condition(labels.to(self.device), torch.full_like(labels, num_classes).to(self.device))

    def noise(self, size: tuple[int, int], batch: int, seed: int) -> Tensor:
        """The start of sampling for `batch` images of (width, height) pixels."""
        shape = latent_shape(self.space, self.net.params.patch_size, *size, batch)
        return draw_noise(shape, seed).to(self.device)

    def check_room(self, batch: int, width: int, height: int) -> None:
        """ValueError for images that the device cannot hold at all; see `memory.check_room`."""
        check_room(self.net.params, batch, width, height, self.space.ratio, self.device)

    def make_room(self, shape: Sequence[int]) -> None:
        """Free the text encoder if memory is short for sampling latents of `shape`.

        The next prompt loads it again, which takes seconds.
        """
        batch, _, height, width = shape
        dtype = self.net.x_embedder.proj.weight.dtype
        sampling = network_bytes(self.net.params, 2 * batch, height, width, dtype)
        pixels = batch * height * width * self.space.ratio**2
        coding = max(ENCODE_BYTES, DECODE_BYTES) * pixels * dtype.itemsize if self.vae else 0
        if self.reload_text_encoder and free_memory(self.device) < max(sampling, coding):
            self.text_encoder = None

    def decode(self, latents: Tensor) -> Tensor:
        """Images of latents, in tiles where memory is short; in pixel space they are images already."""
        return TiledVAE(self.vae).decode(latents)

    def encode(self, images: Tensor) -> Tensor:
        """Latents of images, in tiles where memory is short."""
        return TiledVAE(self.vae).encode(images)

    def plan(self, size: tuple[int, int], **options) -> list[Stage]:
        """The stages to (width, height) pixels from the native size; options of `plan_stages`."""
        return plan_stages(size, self.unit, **{"base_pixels": math.prod(self.default_size), **options})

    def condition(self, request: Request) -> Condition:
        """Conditioning of a request, which requests of the same prompts or classes share."""
        if request.prompts is None:
            return self.classes(request.classes)
        return self.text(request.prompts, request.negative, request.guided)

    def generate(
        self, request: Request, condition: Condition | None = None, callback: Callable[[Step], None] | None = None
    ) -> Tensor:
        """The images of a request, one for each of its prompts or classes.

        Args:
            condition: the request's own, where it has been computed before.
            callback: called after every step.

        Raises:
            ValueError: anything that does not fit the model, in one line.
        """
        condition = self.condition(request) if condition is None else condition
        for stage in request.stages:
            batch = len(condition.context)
            self.check_room(batch, stage.width, stage.height)
            self.make_room(latent_shape(self.space, self.net.params.patch_size, stage.width, stage.height, batch))
        vae = None if request.enlarge == "latents" else TiledVAE(self.vae)
        rope_scaling = RopeScaling(request.rope, self.default_size[0] // self.unit)
        latents = sample_latents(self.net, request, condition, self.space, rope_scaling, vae, callback)
        rows = latents.split(1) if isinstance(request.seed, tuple) else [latents]
        return torch.cat([self.decode(row) for row in rows])  # of seeds of their own, no image depends on the others

    def __call__(
        self,
        prompts: str | Sequence[str] | None = None,
        negative: str = "",
        classes: str | Sequence[str] | None = None,
        callback: Callable[[Step], None] | None = None,
        **settings,
    ) -> Tensor:
        """One image for each prompt of a text model, or each class (number or name) of a class model.

        Args:
            negative: negative prompt; the empty one as published.
            callback: called after every step.
            settings: of `request.gather`, such as size, steps, cfg and seed.

        Returns:
            Images (B,3,H,W) in about [-1, 1].

        Raises:
            ValueError: anything that does not fit the model, in one line.
        """
        request = gather(self.default_size, prompts, classes, negative=negative, **settings)
        return self.generate(request, callback=callback)
