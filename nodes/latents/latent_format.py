"""Scale, ratio and preview colors of TiM's latents, as the host keeps them."""

from __future__ import annotations

import comfy.latent_formats
import torch

from ...tim_model.network.latent_space import LatentSpace

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


class TiMLatentFormat(comfy.latent_formats.LatentFormat):
    """The host's view of a latent space; previews map a cell's channels to RGB in [-1, 1]."""

    def __init__(self, space: LatentSpace):
        self.latent_channels = space.channels
        self.scale_factor = space.scaling_factor
        self.spacial_downscale_ratio = space.ratio
        self.latent_rgb_factors, self.latent_rgb_factors_bias = preview_colors(space)


def preview_colors(space: LatentSpace) -> tuple[list[list[float]], list[float]]:
    """Factors (C,3) and bias (3,): exact for pixels, fitted for known VAEs, else the brightness of all channels."""
    if space.ratio == 1:
        return torch.eye(3).tolist(), [0.0] * 3
    if space.channels == 4:
        return comfy.latent_formats.SD15().latent_rgb_factors, [0.0] * 3
    if space.channels == 32:
        return [[2 * c for c in row] for row in DC_AE_RGB], [2 * c - 1 for c in DC_AE_BIAS]
    return [[space.channels**-0.5] * 3] * space.channels, [0.0] * 3
