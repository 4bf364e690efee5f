"""Fit the preview colors of a VAE's latents to a folder of images.

    python benchmarks/colors/fit_latent_rgb.py --vae PATH --images FOLDER [--size 512] [--output FILE]

Prints JSON: factors (latent channels x RGB), bias (RGB) and r2. latent @ factors + bias is about the mean
color, in [-1, 1], of the pixels behind a latent cell. A ComfyUI latent format takes the two as
latent_rgb_factors and latent_rgb_factors_bias. A few hundred varied images are plenty.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.colors.preview_colors import explained_variance, latent_rgb_factors, mean_colors
from tim_model.files.tensor_files import atomic
from tim_model.loading import best_device
from tim_model.vae.autoencoder import VAE, load_vae

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def read_image(path: Path, size: int) -> Tensor:
    """The middle of an image as (1,3,size,size) in [-1, 1]; ValueError where it cannot be read."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            square = ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: is no readable image ({error}); remove it") from None
    return torch.from_numpy(np.array(square)).movedim(-1, 0)[None] / 127.5 - 1


def fit(vae: VAE, paths: list[Path], size: int) -> dict[str, object]:
    """Factors, bias and R² over all images, of which only latents and mean colors are kept."""
    latents, colors = [], []
    for path in tqdm(paths, desc="encoding", unit="image"):
        image = read_image(path, size)
        latents.append(vae.encode(image).cpu())
        colors.append(mean_colors(image, latents[-1].shape[-2:]))
    x, rgb = torch.cat(latents), torch.cat(colors)
    factors, bias = latent_rgb_factors(x, rgb)
    r2 = explained_variance(x, rgb, factors, bias)
    return {"images": len(paths), "size": size, "r2": r2, "factors": factors.tolist(), "bias": bias.tolist()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, required=True, help="folder or .safetensors in the layout of diffusers")
    parser.add_argument("--images", type=Path, required=True, help="folder of images, searched with its subfolders")
    parser.add_argument("--size", type=int, default=512, help="pixels of the square cut from each image")
    parser.add_argument("--output", type=Path, help="JSON file to write instead of printing")
    options = parser.parse_args(arguments)
    try:
        paths = sorted(path for path in options.images.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not paths:
            raise ValueError(f"{options.images}: holds no image, expected {', '.join(sorted(SUFFIXES))}")
        result = json.dumps(fit(load_vae(options.vae, best_device()), paths, options.size), indent=2)
        if options.output is None:
            print(result)
        else:
            with atomic(options.output) as temporary:
                temporary.write_text(result + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
