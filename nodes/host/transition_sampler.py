"""TiM's transitions as a SAMPLER of the host, its SIGMAS, and a whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import comfy.model_patcher
import comfy.samplers
import torch
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced
from torch import Tensor
from tqdm.auto import tqdm

from ...tim_model import Step, sample
from ...tim_model.sampling.noise import image_noise_stream, noise_stream
from ...tim_model.sampling.sampler import Sampling
from ..run.keys import MASKED, TARGET


def schedule_sigmas(times: list[float]) -> Tensor:
    """Times as SIGMAS, float32; ValueError where two neighbors are the same in float32."""
    sigmas = torch.tensor(times, dtype=torch.float32)
    if not (sigmas[1:] < sigmas[:-1]).all():
        raise ValueError(f"{len(times) - 1} steps lie too close together for float32: use fewer")
    return sigmas


@dataclass(frozen=True)
class TransitionSettings:
    """How `sample_transitions` takes its steps.

    Attributes:
        stochasticity, velocity: of `tim_model.sampling.sampler.Sampling`.
        fit_mask: under a noise mask, steps restart with the targets of `masked_target`; without a mask, and with
            `velocity`, it changes nothing.
        restart: of `Sampling`; under a noise mask that steps fit, all noise is new whatever it is.
    """

    stochasticity: float = 0.0
    velocity: bool = False
    fit_mask: bool = True
    restart: float = 0.0


def sample_transitions(
    model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None, settings=TransitionSettings()
) -> Tensor:
    """`tim_model.sample` in the form of the host's samplers: x is the state at sigmas[0], a sigma is a time t.

    The host's model returns x - t F (guided); the transition's target r reaches the network as `TARGET`.
    """
    if len(sigmas) < 2:
        return x
    extra_args = extra_args or {}
    masked = keeps_part(extra_args) and settings.fit_mask and not settings.velocity
    restart = 0.0 if masked else settings.restart
    stream = (image_noise_stream if restart else noise_stream)(extra_args.get("seed") or 0)
    with reporting(len(sigmas) - 1, callback, disable) as report:
        return sample(
            transition_field(model, extra_args, masked), x, torch.as_tensor(sigmas).tolist(), None,
            stochasticity=settings.stochasticity, velocity=settings.velocity, noise_fn=stream, callback=report,
            restart=restart, redraw=masked,
        )  # fmt: skip


def keeps_part(extra_args: dict) -> bool:
    """Whether a run is under a noise mask that keeps something."""
    return bool(extra_args.get("model_options", {}).get("transformer_options", {}).get(MASKED))


def transition_field(model, extra_args: dict, masked: bool = False) -> Callable[..., Tensor]:
    """The host's model, guidance included, as the network F(x_t, t (B,), r (B,), None) that `sample` steps with."""

    def field(x_t: Tensor, t: Tensor, r: Tensor, context: None) -> Tensor:
        options = comfy.model_patcher.create_model_options_clone(extra_args.get("model_options", {}))
        options.setdefault("transformer_options", {}).update({TARGET: r, MASKED: masked})
        denoised = model(x_t, t, **{**extra_args, "model_options": options})
        return (x_t - denoised) / t[:, None, None, None]

    return field


@contextmanager
def reporting(steps: int, callback: Callable | None, disable: bool | None) -> Iterator[Callable[[Step], None]]:
    """What passes each step on to a bar and to the host's callback."""
    with tqdm(total=steps, disable=disable) as bar:

        def report(step: Step) -> None:
            bar.update()
            if callback is not None:
                denoised = step.x_t - step.t * step.F
                callback({"x": step.x_t, "i": step.i, "sigma": step.t, "sigma_hat": step.t, "denoised": denoised})

        yield report


def build_sampler(
    stochasticity: float = 0.0, velocity: bool = False, fit_mask: bool = True, restart: float = 0.0
) -> comfy.samplers.KSAMPLER:
    """The SAMPLER of `sample_transitions`; ValueError for settings that exclude each other."""
    Sampling(stochasticity=stochasticity, restart=restart)
    settings = TransitionSettings(stochasticity, velocity, fit_mask, restart)
    return comfy.samplers.KSAMPLER(sample_transitions, {"settings": settings})


def sample_latent(guider, sampler, sigmas: Tensor, latent: dict, seed: int) -> dict:
    """The LATENT that SamplerCustomAdvanced makes of a LATENT."""
    return SamplerCustomAdvanced.execute(Noise_RandomNoise(seed), guider, sampler, sigmas, latent)[0]
