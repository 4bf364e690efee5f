"""The fit of preview colors recovers a known map, and refuses what has no answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.colors.fit_latent_rgb import main
from benchmarks.colors.preview_colors import explained_variance, latent_rgb_factors


def colored(latents: torch.Tensor, factors: torch.Tensor, bias: torch.Tensor, ratio: int) -> torch.Tensor:
    """Images whose cells have the colors of latents on average, but vary inside."""
    rgb = torch.einsum("nchw,cr->nrhw", latents, factors) + bias[:, None, None]
    pattern = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(ratio // 2, ratio // 2)
    return rgb.repeat_interleave(ratio, -1).repeat_interleave(ratio, -2) + 0.3 * pattern.repeat(latents.shape[2:])


def test_fit_recovers_a_linear_map():
    torch.manual_seed(0)
    latents, factors, bias = torch.randn(3, 16, 5, 7), torch.randn(16, 3), torch.randn(3)
    images = colored(latents, factors, bias, ratio=8)
    fitted, fitted_bias = latent_rgb_factors(latents, images)
    torch.testing.assert_close(fitted, factors, atol=1e-5, rtol=0)
    torch.testing.assert_close(fitted_bias, bias, atol=1e-5, rtol=0)
    assert fitted.dtype == fitted_bias.dtype == torch.float32
    assert explained_variance(latents, images, fitted, fitted_bias) == pytest.approx(1, abs=1e-6)


def test_explained_variance_of_a_known_residual():
    """Colors that are half latent and half unrelated noise of the same variance: R² is one half."""
    torch.manual_seed(0)
    latents, noise = torch.randn(1, 3, 64, 64), torch.randn(1, 3, 64, 64)
    factors, bias = latent_rgb_factors(latents, latents + noise)
    assert explained_variance(latents, latents + noise, factors, bias) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("latents", "images", "message"),
    [
        (torch.zeros(2, 4, 8, 8), torch.zeros(3, 3, 64, 64), "2 latents and 3 images"),
        (torch.zeros(1, 16, 4, 4), torch.zeros(1, 3, 64, 64), "16 latent cells of 16 channels"),
        (torch.full((1, 4, 8, 8), torch.nan), torch.zeros(1, 3, 64, 64), "NaN"),
    ],
)
def test_refusals(latents, images, message):
    with pytest.raises(ValueError, match=message):
        latent_rgb_factors(latents, images)


def test_script_fits_a_folder_of_images(tmp_path, capsys):
    """A VAE whose encoder sees nothing leaves the mean color to the bias, and explains no variance."""
    diffusers = pytest.importorskip("diffusers")
    widths = (8, 8, 8, 8, 16)
    blind = {
        "encoder_block_out_channels": widths,
        "decoder_block_out_channels": widths,
        "latent_channels": 16,
    }
    layers = {"encoder_layers_per_block": (1,) * 5, "decoder_layers_per_block": (1,) * 5}
    scales = {"encoder_qkv_multiscales": ((),) * 5, "decoder_qkv_multiscales": ((),) * 5}
    vae = diffusers.AutoencoderDC(**blind, **layers, **scales)
    vae.encoder.load_state_dict({name: 0 * value for name, value in vae.encoder.state_dict().items()})
    vae.save_pretrained(tmp_path / "vae")
    (tmp_path / "images").mkdir()
    for i, color in enumerate([(255, 0, 0), (0, 0, 255)]):
        Image.fromarray(np.full((40, 70 + i, 3), color, dtype=np.uint8)).save(tmp_path / "images" / f"{i}.png")
    arguments = ["--vae", str(tmp_path / "vae"), "--images", str(tmp_path / "images"), "--size", "128"]
    assert main([*arguments, "--output", str(tmp_path / "fit.json")]) == 0
    fit = json.loads((tmp_path / "fit.json").read_text())
    assert (fit["images"], fit["size"], np.shape(fit["factors"])) == (2, 128, (16, 3))
    assert fit["r2"] == pytest.approx(0, abs=1e-6)
    assert fit["bias"] == pytest.approx([0, -1, 0], abs=1e-6)

    (tmp_path / "images" / "broken.jpg").write_text("no image")
    assert main(arguments) == 1
    assert "broken.jpg: is no readable image" in capsys.readouterr().err
