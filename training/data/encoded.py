"""Encodes images and captions once, into a disk cache keyed by content; then frees the encoders."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from tim_model import load_text_encoder, load_vae
from tim_model.text.encoder import pad_features
from tim_model.text.files import read_text_encoder_tokenizer

from ..processes.share import Share, rank
from .dataset import Dataset
from .images.read_image import READING
from .tensor_cache import TensorCache, cache_key, hash_model

ENCODING = 2  # raise it if the same file and model give other latents or features


class Latents:
    """The clean states of a dataset: its pixels or latents, or latents that a VAE encodes from its pixels.

    Args:
        vae: file or folder; "" uses the dataset's own tensors.
        dtype: the compute dtype of the VAE.
    """

    def __init__(self, dataset: Dataset, vae: str, cache: TensorCache, dtype: torch.dtype = torch.float32):
        self.dataset = dataset
        self.vae = vae
        self.cache = cache
        self.dtype = dtype

    @cached_property
    def model_hash(self) -> str:
        return hash_model(Path(self.vae))

    def key(self, i: int, mirrored: bool) -> str:
        sample = self.dataset.samples[i]
        made_by = self.model_hash, self.dtype, READING, ENCODING
        return cache_key("latent", sample.digest, sample.bucket, mirrored, *made_by)

    def read(self, i: int, mirrored: bool) -> Tensor:
        """One state (C,H,W), float32."""
        if not self.vae:
            return self.dataset.read(i, mirrored)
        return self.cache.get(self.key(i, mirrored))

    def encode(self, copies: Sequence[tuple[int, bool]], device: torch.device, share: Share) -> None:
        """Encode the samples and mirror images that the cache lacks: equal ones once, each one by itself."""
        if not self.vae:
            return
        unique = {self.key(i, mirrored): (i, mirrored) for i, mirrored in copies}
        missing = {key: copy for key, copy in share.of(unique.items()) if key not in self.cache}
        if not missing:
            return
        vae = load_vae(self.vae, device, self.dtype)
        progress = tqdm(missing.items(), "encoding images", unit="image", disable=rank() > 0 or None)
        for key, (i, mirrored) in progress:
            latent = vae.encode(self.dataset.read(i, mirrored)[None])[0]
            if not latent.isfinite().all():
                raise ValueError(f"{self.dataset.samples[i].name}: the VAE made NaN or infinite latents of it")
            self.cache.put(key, latent)
        del vae
        free()


class TextFeatures:
    """Features of captions from a frozen text encoder, including the empty caption, which is the null conditioning.

    Args:
        encoder: folder or packed file.
    """

    def __init__(self, encoder: str, cache: TensorCache):
        self.encoder = encoder
        self.cache = cache
        self.lengths: dict[str, int] = {}

    @cached_property
    def model_hash(self) -> str:
        return hash_model(Path(self.encoder))

    def key(self, caption: str | None) -> str:
        """The cache key of a caption's features; of the pad feature for None."""
        return cache_key("text" if caption is not None else "pad", caption or "", self.model_hash, ENCODING)

    def encode(self, captions: Iterable[str], device: torch.device, share: Share) -> None:
        """Encode the captions, the empty caption and the pad feature that the cache lacks."""
        missing = [c for c in share.of(sorted({*captions, ""})) if self.key(c) not in self.cache]
        lacks_pad = share.rank == 0 and self.key(None) not in self.cache
        if not missing and not lacks_pad:
            return
        encoder = load_text_encoder(self.encoder, device)
        for caption in tqdm(missing, "encoding captions", unit="caption", disable=rank() > 0 or None):
            self.cache.put(self.key(caption), encoder.encode([caption])[0])
        if lacks_pad:
            self.cache.put(self.key(None), encoder.pad_feature)
        del encoder
        free()

    @property
    def pad(self) -> Tensor:
        """The pad feature (D,), which follows the last token."""
        return self.cache.get(self.key(None))

    def length(self, caption: str) -> int:
        """The number of tokens of a caption."""
        if caption not in self.lengths:
            self.lengths[caption] = len(self.cache.get(self.key(caption)))
        return self.lengths[caption]

    def full_lengths(self, captions: Iterable[str]) -> list[int]:
        """The number of tokens of each caption before it is cut to `MAX_TOKENS`, without encoding."""
        tokenizer = read_text_encoder_tokenizer(self.encoder)
        return [tokenizer.length(caption) for caption in captions]

    def read(self, captions: Sequence[str], length: int) -> Tensor:
        """Features (B, length, D), padded."""
        return pad_features([self.cache.get(self.key(caption)) for caption in captions], self.pad, length)


def free() -> None:
    """Return the memory of a freed model to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
