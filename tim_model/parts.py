"""Checks that network, text encoder and VAE fit together."""

from __future__ import annotations

from .files.published import DC_AE, SD_VAE
from .network.latent_space import LatentSpace
from .network.tim import TiM
from .text.encoder import TextEncoder
from .vae.autoencoder import VAE


def check_parts(net: TiM, space: LatentSpace, text_encoder: TextEncoder | None, vae: VAE | None) -> None:
    """Raise ValueError, in one line, for parts that are missing or do not fit."""
    width = net.params.context_dim
    if width is not None and text_encoder is None:
        raise ValueError("this is a text model: it needs a text encoder (google/gemma-3-1b-it for the published one)")
    if width is not None and text_encoder.width != width:
        raise ValueError(f"the text encoder has {text_encoder.width} features, the model expects {width}")
    if space.ratio != 1 and vae is None:
        source = {32: DC_AE, 4: SD_VAE}.get(space.channels, "the one it was trained with")
        raise ValueError(f"this model has {space.channels} latent channels: it needs a VAE ({source})")
    if vae is not None and (vae.channels, vae.ratio) != (space.channels, space.ratio):
        raise ValueError(
            f"the VAE has {vae.channels} channels at 1/{vae.ratio}, "
            f"the model expects {space.channels} at 1/{space.ratio}"
        )
