"""The wrapper around every run of a TiM model, for all sampler nodes."""

from __future__ import annotations

from torch import Tensor

from ...tim_model.network.memory import check_room
from ..graph.notices import renew
from ..latents.empty_latents import one_frame, ratio_of_other_node, resize_empty, resize_mask
from ..latents.pixel_latents import warn_of_pixel_nodes
from .areas import areas_in_cells
from .checks import check_finite, check_sigmas, check_start, log_cfg, warn_of_single_step, warn_of_size
from .keys import MASKED
from .transitions import prepare_sampler

SEED = 2  # of the arguments after denoise_mask: callback, disable_pbar, seed


def prepare_run(
    executor, noise: Tensor, latent: Tensor, sampler, sigmas: Tensor, denoise_mask: Tensor | None = None, *rest, **named
) -> Tensor:
    """The host's wrapper around a whole run: latent, conditions and sampler as TiM needs them, and checks.

    Raises:
        ValueError: times, a latent or areas that cannot work, or a result that is not finite.
    """
    renew()
    guider = executor.class_obj
    tim = guider.model_patcher.model
    check_sigmas(sigmas)
    given, other_ratio = latent.shape, ratio_of_other_node(tim.space.ratio, latent)
    latent, noise = one_frame(latent), one_frame(noise)
    if other_ratio:
        seed = rest[SEED] if len(rest) > SEED else named.get("seed", 0)
        latent, noise = resize_empty(tim.space, tim.params.patch_size, latent, noise, seed, other_ratio)
    if latent.shape != given:
        denoise_mask = resize_mask(denoise_mask, given, latent.shape)
        named |= {"latent_shapes": [latent.shape]} if "latent_shapes" in named else {}
    tim.check_latent(latent)
    check_start(latent, noise, float(sigmas[0]))
    batch, _, height, width = latent.shape
    ratio = tim.space.ratio
    check_room(tim.params, batch, width * ratio, height * ratio, ratio, guider.model_patcher.load_device)
    if not getattr(guider, "expects_large", False):
        warn_of_size(width * ratio, height * ratio, tim.size, tim.size_is_largest)
    warn_of_pixel_nodes(ratio)
    log_cfg(getattr(guider, "cfg", None))
    areas_in_cells(guider.conds, ratio, height, width)
    if denoise_mask is not None and bool((denoise_mask < 1).any()):  # a mask of ones keeps nothing
        guider.model_options.setdefault("transformer_options", {})[MASKED] = True
        warn_of_single_step(sigmas)
    sampler = prepare_sampler(sampler, guider.model_options)
    sigmas = sigmas.clone()  # uni_pc writes into them, and other samplers may share them
    with tim.reading_texts_once():
        return check_finite(executor(noise, latent, sampler, sigmas, denoise_mask, *rest, **named))
