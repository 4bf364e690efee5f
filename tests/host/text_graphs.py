"""Small API-format graphs of the text-to-image stack for the tests, and what to compare their results with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from devtools.client import Client
from devtools.random_stack import MODEL_FILE, TEXT_ENCODER_FILE, VAE_FILE
from tests.host.graphs import SEED, Graph, node, run_latent
from tim_model import TiMPipeline, make_times, sample
from tim_model.pipeline import Condition

WIDTH, HEIGHT = 128, 96
FOX = "a red fox"
UGLY = "blurry, ugly, low quality picture"  # longer than FOX


def loaders(model: str = MODEL_FILE, text_encoder: str = TEXT_ENCODER_FILE, vae: str = VAE_FILE) -> Graph:
    """A stack, the random one unless told otherwise: "model", "clip", "vae"."""
    return {
        "model": node("TiMModelLoader", model_name=model, weight_dtype="default"),
        "clip": node("TiMTextEncoderLoader", text_encoder_name=text_encoder),
        "vae": node("TiMVAELoader", vae_name=vae),
    }


def prompt(text: str, clip: str = "clip") -> dict[str, Any]:
    return node("CLIPTextEncode", clip=[clip, 0], text=text)


def text_model(
    positive: str = FOX, negative: str = UGLY, width: int = WIDTH, height: int = HEIGHT, batch: int = 1
) -> Graph:
    """The stack, prompts and an empty latent: also "positive", "negative", "latent"."""
    latent = node("TiMEmptyLatent", model=["model", 0], width=width, height=height, batch_size=batch)
    return {**loaders(), "positive": prompt(positive), "negative": prompt(negative), "latent": latent}


CONDITIONED = {"model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0]}


def decoded(name: str = "sample") -> Graph:
    """The picture of a node's latents, saved: "decoded", "saved_image"."""
    return {
        "decoded": node("VAEDecode", samples=[name, 0], vae=["vae", 0]),
        "saved_image": node("SaveImage", images=["decoded", 0], filename_prefix="text"),
    }


def load_image(host: Client, picture: Image.Image, name: str) -> Graph:
    """Put a picture into the host; "image" (with its mask) and, encoded, "encoded"."""
    host.upload_image(picture, f"{name}.png")
    encoded = node("VAEEncode", pixels=["image", 0], vae=["vae", 0])
    return {"image": node("LoadImage", image=f"{name}.png"), "encoded": encoded}


def gradient(width: int = WIDTH, height: int = HEIGHT, mode: str = "RGB") -> Image.Image:
    """A picture whose pixels all differ from their neighbors."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 // width, y * 255 // height, (x + 2 * y) % 256, np.full_like(x, 255)]
    return Image.fromarray(np.stack(channels[: len(mode)], axis=-1).astype(np.uint8), mode)


def to_tensor(picture: Image.Image) -> Tensor:
    """The picture (1,3,H,W) in [-1, 1]."""
    pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None]
    return pixels.float() / 127.5 - 1


def run_text_latent(host: Client, graph: Graph, pipeline: TiMPipeline, name: str = "sample") -> Tensor:
    """Latents of a node as the network has them: the host takes the scaling factor out."""
    return run_latent(host, graph, name) * pipeline.space.scaling_factor


def text_reference(
    pipeline: TiMPipeline,
    condition: Condition | None = None,
    state: Tensor | None = None,
    steps: int = 4,
    **options: Any,
) -> Tensor:
    """`tim_model.sample` with the settings of the graphs here unless told otherwise."""
    state = pipeline.noise((WIDTH, HEIGHT), 1, SEED) if state is None else state
    condition = condition or pipeline.text([FOX] * len(state), UGLY)
    times = make_times("uniform", steps, start=options.pop("start", 1.0))
    return sample(pipeline.net, state, times, *condition, **{"cfg": 2.5, **options})


def assert_same_latents(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    assert found.shape == expected.shape
    worst = (found - expected).abs().max().item()
    assert worst <= tolerance, f"latents differ by {worst:.2g}"


def assert_same_pictures(found: list[Image.Image], expected: Tensor, tolerance: float = 1e-4) -> None:
    """Pictures of the host, which rounds down to 8 bits, against images (B,3,H,W) in [-1, 1].

    Before rounding they must agree within `tolerance` of the range from 0 to 1.
    """
    pixels = ((expected.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1)
    saved = torch.from_numpy(np.stack([np.array(picture.convert("RGB")) for picture in found])).float()
    assert saved.shape == pixels.shape
    lost = pixels - saved  # what rounding took: from 0 up to 1
    slack = 255 * tolerance
    assert -slack <= lost.min() and lost.max() <= 1 + slack, f"off by {lost.min():.3f} to {lost.max():.3f} of 255"
