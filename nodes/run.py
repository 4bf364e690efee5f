"""What happens around every run of a TiM model, whichever node samples."""

from __future__ import annotations

from torch import Tensor

from ..tim_model.memory import check_room
from .areas import areas_in_cells
from .empty_latents import ratio_of_other_node, resize_empty
from .latent_format import space_of
from .pixel_latents import tell_pixel_nodes
from .run_checks import check_finite, check_sigmas, check_start, log_cfg, tell_size
from .transitions import prepare_sampler

SEED = 3  # of the arguments after sigmas: denoise_mask, callback, disable_pbar, seed


def prepare_run(executor, noise: Tensor, latent: Tensor, sampler, sigmas: Tensor, *args, **kwargs) -> Tensor:
    """The host's wrapper around a whole run: latent, conditions and sampler as TiM needs them, and checks.

    Raises:
        ValueError: times, a latent or areas that cannot work, or a result that is not finite.
    """
    guider = executor.class_obj
    tim = guider.model_patcher.model
    check_sigmas(sigmas)
    if other_ratio := ratio_of_other_node(tim, latent):
        seed = args[SEED] if len(args) > SEED else kwargs.get("seed", 0)
        latent, noise = resize_empty(tim, latent, noise, seed, other_ratio)
        kwargs |= {"latent_shapes": [latent.shape]} if "latent_shapes" in kwargs else {}
    tim.check_latent(latent)
    check_start(latent, noise, float(sigmas[0]))
    batch, _, height, width = latent.shape
    ratio = space_of(tim).ratio
    check_room(tim.params, batch, width * ratio, height * ratio, ratio, guider.model_patcher.load_device)
    if not getattr(guider, "expects_large", False):
        tell_size(width * ratio, height * ratio, tim.size)
    tell_pixel_nodes(ratio)
    log_cfg(getattr(guider, "cfg", None))
    areas_in_cells(guider.conds, ratio, height, width)
    sampler = prepare_sampler(sampler, guider.model_options)
    sigmas = sigmas.clone()  # uni_pc writes into them, and other samplers may share them
    return check_finite(executor(noise, latent, sampler, sigmas, *args, **kwargs))
