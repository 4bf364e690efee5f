"""Checks of a run under every sampler: errors and warnings about its times, start, size, guidance and result."""

from __future__ import annotations

from torch import Tensor

from ...tim_model.sampling.sizes import native_warning
from ..graph.notices import note, warn

# An empty latent counts for 1 - t of the first state, as gray. ddim_uniform starts at 0.75 for 4 steps.
NEAR_NOISE, HALF_GRAY = 0.95, 0.7
STRONG_CFG = 5.0  # twice the published scale of text models


def check_sigmas(sigmas: Tensor) -> None:
    """ValueError for sigmas (n,) that are no times of a run of TiM; they may fall, rise or repeat inside [0, 1]."""
    if not sigmas.isfinite().all():
        raise ValueError(
            f"sigmas hold NaN or infinite values (times {sigmas.tolist()[:4]} ...): expected times from 1 to 0; this "
            "scheduler cannot make that number of steps"
        )
    first, last = float(sigmas[0]), float(sigmas[-1])
    lowest, highest = float(sigmas.min()), float(sigmas.max())
    if lowest < 0 or highest > 1 + 1e-4:
        raise ValueError(
            f"sigmas run from {first:g} to {last:g} between {lowest:g} and {highest:g}: expected times from 1 (noise) "
            "to 0 (image); take the stock BasicScheduler with this model, or TiM Transition Schedule"
        )
    if last > 1 - 1e-6:
        raise ValueError(
            f"sigmas end at {last:g}, pure noise, where no latent is left to hand on: expected decreasing times, or "
            "rising ones that end below 1, such as 0.999"
        )
    if (sigmas[:-1] <= 0).any():
        raise ValueError(
            "sigmas reach 0 before their end, where no step can start: expected times that stay above 0 up to the last"
        )


def check_start(latent: Tensor, noise: Tensor, sigma: float) -> None:
    """Refuse or warn of a start from an empty latent that is not pure noise: what is missing of the noise is gray."""
    if latent.any():
        return
    if not noise.any():
        warn("the latent is empty and no noise is added: there is nothing to draw from, expect a blank image")
    elif sigma < NEAR_NOISE:
        line = (
            f"sampling starts at time {sigma:.3g} from an empty latent, so the image is gray by the "
            f"{1 - sigma:.2g} that it lacks of noise: set denoise to 1, start at step 0, or take another scheduler"
        )
        if sigma < HALF_GRAY:
            raise ValueError(line)
        warn(line)


def warn_of_size(width: int, height: int, size: tuple[int, int], trained: bool) -> None:
    """Warn of a size in pixels that is far beyond the native (width, height); `trained` as of `native_warning`."""
    if warning := native_warning(width, height, size, trained):
        warn(
            f"{warning}; for large images take TiM High-Res Sampler, and if this is no size that you set, TiM Empty "
            "Latent in place of another pack's"
        )


def warn_of_single_step(sigmas: Tensor) -> None:
    """Warn that a single step from noise under a noise mask ignores the part that is kept."""
    if len(sigmas) == 2 and float(sigmas[0]) > NEAR_NOISE and float(sigmas[1]) <= 0:
        warn(
            "one step from pure noise under a noise mask: the network sees nothing of the part that is kept, so "
            "what it draws may not fit in; take 2 steps or more"
        )


def log_cfg(cfg: object) -> None:
    """Log a guidance scale far above what TiM is published with; guiders of other packs may have something else."""
    if isinstance(cfg, (int, float)) and cfg > STRONG_CFG:
        note(
            f"cfg {cfg:g} is far above the 2.5 that TiM is published with (KSampler's default of 8 is for other "
            "models): expect harsh colors and shapes; 1.5 to 4 serve most prompts"
        )


def check_finite(samples: Tensor) -> Tensor:
    """The sampled latent unchanged, or ValueError."""
    if samples.isfinite().all():
        return samples
    raise ValueError(
        "the sampled latent holds NaN or infinite values: load the model with weight_dtype fp32, or take another "
        "sampler or scheduler"
    )
