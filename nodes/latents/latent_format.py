"""Scale, ratio and previews of TiM's latents, as the host keeps them."""

from __future__ import annotations

import os
from pathlib import Path

import comfy.latent_formats
import folder_paths
import torch

from ...tim_model.network.latent_space import LatentSpace
from .vae_preview import VAEPreview

# Published for the same VAE by city96/ComfyUI_ExtraModels (Sana/loader.py), where they map to RGB in [0, 1] by their
# bias, an image's mean color. benchmarks/colors/fit_latent_rgb.py fits them on the real VAE.
DC_AE_RGB = [
    [-0.0020022, -0.0060736, -0.0017096], [0.0014221, 0.0036703, 0.0041083], [0.010081, 0.00026456, -0.014333],
    [-0.0024253, 0.0030967, -0.0010301], [0.0022158, 0.0077274, -0.013151], [0.011235, 0.005763, 0.0036146],
    [-0.072899, 0.011062, 0.036103], [0.032346, 0.028678, 0.025014], [0.0016469, -0.0011364, 0.0028366],
    [-0.035597, -0.023447, -0.0031172], [-0.00019985, -0.0020647, -0.012702], [0.00021318, 0.0012196, -0.00083461],
    [0.013766, 0.0027559, 0.0073567], [0.013027, 0.0026365, 0.0030405], [0.015335, 0.0094682, 0.0067312],
    [0.0051827, -0.0094865, 0.008508], [0.014365, -0.0032867, 0.0095108], [-0.0041216, -0.0019177, -0.0033726],
    [-0.0024757, 0.00051739, 0.002028], [-0.003595, 0.001072, 0.0053043], [-0.0051758, 0.008104, -0.037564],
    [-0.0038555, -0.0015529, -0.0035799], [-0.0066175, -0.0068484, -0.0099609], [-0.0021656, 0.00005577, 0.0014936],
    [-0.092857, -0.11379, -0.10919], [0.00077044, 0.0055594, 0.034755], [0.012714, 0.029729, 0.0031989],
    [-0.0011805, 0.0090548, -0.00041063], [0.00083309, 0.0049694, 0.0023087], [0.0078456, 0.003975, 0.0035655],
    [-0.0017552, 0.0049306, 0.01421], [-0.001479, 0.0028837, -0.0045687],
]  # fmt: skip
DC_AE_BIAS = [0.4358, 0.3814, 0.3388]

# The demo models and their VAEs, small ones, by which previews are decoded: their colors, from 300 scenes each by the
# same fit, explain only 0.64 and 0.27 of the variance.
DEMO_VAES = {
    "tim-emoji-scenes-t2i.safetensors": "dc-ae-emoji-scenes.safetensors",
    "tim-fashion-scenes-t2i.safetensors": "dc-ae-fashion-scenes.safetensors",
}
DEMO_COLORS = {
    "dc-ae-emoji-scenes.safetensors": ([
        [-0.026, 0.023, 0.037], [-0.037, -0.173, 0.04], [-0.238, -0.152, -0.081], [-0.032, -0.032, -0.004],
        [-0.088, 0.074, 0.023], [0.137, 0.056, 0.023], [-0.006, -0.023, 0.012], [0.063, 0.036, 0.055],
        [-0.032, -0.018, 0.047], [0.035, -0.065, -0.13], [-0.025, -0.02, -0.112], [-0.039, 0.009, -0.005],
        [-0.098, -0.186, -0.264], [0.04, 0.021, -0.004], [-0.031, -0.062, -0.061], [-0.007, -0.011, 0.027],
    ], [0.588, 0.471, 0.392]),
    "dc-ae-fashion-scenes.safetensors": ([
        [0.029, 0.005, 0.052], [-0.022, -0.028, -0.027], [-0.026, -0.033, -0.071], [-0.005, -0.02, 0.014],
        [-0.043, -0.008, -0.023], [0.005, 0.065, 0.04], [-0.019, -0.048, -0.031], [0.082, 0.071, 0.082],
        [-0.087, -0.064, -0.011], [-0.019, -0.033, -0.043], [0.037, 0.022, 0.019], [-0.016, -0.025, -0.043],
        [0.001, 0.01, 0.007], [0.035, 0.009, -0.037], [0.051, 0.021, -0.002], [-0.022, 0.016, 0.013],
    ], [-0.779, -0.784, -0.753]),
}  # fmt: skip


class TiMLatentFormat(comfy.latent_formats.LatentFormat):
    """The host's view of a latent space; previews map a cell's channels to RGB in [-1, 1].

    Args:
        model: path of the network's file. The included ones have previews that their VAEs decode.
    """

    def __init__(self, space: LatentSpace, model: str | os.PathLike = ""):
        self.latent_channels = space.channels
        self.scale_factor = space.scaling_factor
        self.spacial_downscale_ratio = space.ratio
        vae = DEMO_VAES.get(Path(model).name)
        self.latent_rgb_factors, self.latent_rgb_factors_bias = DEMO_COLORS.get(vae) or preview_colors(space)
        if vae and (path := folder_paths.get_full_path("vae", vae)):
            self.latent_rgb_factors_reshape = VAEPreview(path, self.latent_rgb_factors, self.latent_rgb_factors_bias)


def preview_colors(space: LatentSpace) -> tuple[list[list[float]], list[float]]:
    """Factors (C,3) and bias (3,): exact for pixels, fitted for known VAEs, else the brightness of all channels."""
    if space.ratio == 1:
        return torch.eye(3).tolist(), [0.0] * 3
    if space.channels == 4:
        return comfy.latent_formats.SD15().latent_rgb_factors, [0.0] * 3
    if space.channels == 32:
        return [[2 * c for c in row] for row in DC_AE_RGB], [2 * c - 1 for c in DC_AE_BIAS]
    return [[space.channels**-0.5] * 3] * space.channels, [0.0] * 3
