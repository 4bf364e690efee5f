"""Pictures to latents and captions to features, once for all: on disk, keyed by content, and the encoders freed."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from tim_model import load_text_encoder, load_vae
from tim_model.text import pad_features
from tim_model.text_files import read_text_encoder_files

from .cache import TensorCache, cache_key, hash_model
from .dataset import Dataset
from .images import READING
from .share import Share, rank

ENCODING = 2  # raise it where the same file and model give other latents or features


class Latents:
    """The clean states of a dataset: its pixels or latents as they are, or latents that a VAE made of its pixels.

    Args:
        vae: file or folder; "" takes what the dataset holds.
        dtype: that the VAE computes in.
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
        """Encode what the cache lacks of samples and mirror images; one at a time, so that neighbors don't matter."""
        missing = [(i, m) for i, m in share.of(copies) if self.vae and self.key(i, m) not in self.cache]
        if not missing:
            return
        vae = load_vae(self.vae, device, self.dtype)
        for i, mirrored in tqdm(missing, "encoding pictures", unit="picture", disable=rank() > 0 or None):
            latent = vae.encode(self.dataset.read(i, mirrored)[None])[0]
            if not latent.isfinite().all():
                raise ValueError(f"{self.dataset.samples[i].name}: the VAE made NaN or infinite latents of it")
            self.cache.put(self.key(i, mirrored), latent)
        del vae
        free()


class TextFeatures:
    """Features of captions by a frozen text encoder; the empty caption, which stands for no caption, is one of them.

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
        """Of a caption's features, or of the pad feature for None."""
        return cache_key("text" if caption is not None else "pad", caption or "", self.model_hash, ENCODING)

    def encode(self, captions: Iterable[str], device: torch.device, share: Share) -> None:
        """Encode the captions, the empty one and the pad feature, as far as the cache lacks them."""
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
        """The feature (D,) behind the last token."""
        return self.cache.get(self.key(None))

    def length(self, caption: str) -> int:
        """Tokens of a caption."""
        if caption not in self.lengths:
            self.lengths[caption] = len(self.cache.get(self.key(caption)))
        return self.lengths[caption]

    def full_lengths(self, captions: Iterable[str]) -> list[int]:
        """Tokens of each caption before it is cut to `MAX_TOKENS`; nothing is encoded."""
        tokenizer = read_text_encoder_files(self.encoder).tokenizer
        return [tokenizer.length(caption) for caption in captions]

    def read(self, captions: Sequence[str], length: int) -> Tensor:
        """Features (B, length, D), padded."""
        return pad_features([self.cache.get(self.key(caption)) for caption in captions], self.pad, length)


def free() -> None:
    """Give the memory of a freed model back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
