"""The latents of a request, by the network's transitions or by a solver of its velocities."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .network.latent_space import LatentSpace, latent_shape
from .network.rope import RopeScaling
from .network.tim import TiM
from .request import Request
from .sampling.adaptive import sample_adaptively
from .sampling.noise import draw_noise
from .sampling.progressive import Codec, sample_progressively
from .sampling.sampler import Condition, Step
from .sampling.solvers.epd import fingerprint
from .sampling.solvers.velocity import velocity_of

Callback = Callable[[Step], None] | None


def sample_latents(
    net: TiM, request: Request, condition: Condition, space: LatentSpace, rope_scaling: RopeScaling, vae: Codec | None,
    callback: Callback = None,
) -> Tensor:  # fmt: skip
    """Latents of the last stage's size, one for each row of the condition; see `sample_progressively`."""
    if request.solver:
        return solve(net, request, condition, space, rope_scaling, callback)
    if request.tolerance is not None:
        return adapt(net, request, condition, space, rope_scaling, callback)
    return sample_progressively(
        partial(net, rope_scaling=rope_scaling), request.stages, *condition, space=space, seed=request.seed, vae=vae,
        callback=callback, **vars(request.sampling),
    )  # fmt: skip


def adapt(
    net: TiM, request: Request, condition: Condition, space: LatentSpace, rope_scaling: RopeScaling,
    callback: Callback = None,
) -> Tensor:  # fmt: skip
    """Latents by as many transitions as each image needs; errors of `sample_adaptively`."""
    stage = request.stages[0]
    shape = latent_shape(space, net.params.patch_size, stage.width, stage.height, len(condition.context))
    noise = draw_noise(shape, request.seed).to(condition.context.device)
    return sample_adaptively(
        partial(net, rope_scaling=rope_scaling), noise, stage.times, request.tolerance, *condition, callback=callback,
        **vars(request.sampling),
    )  # fmt: skip


@torch.no_grad()
def solve(
    net: TiM, request: Request, condition: Condition, space: LatentSpace, rope_scaling: RopeScaling,
    callback: Callback = None,
) -> Tensor:  # fmt: skip
    """Latents by the request's solver.

    Raises:
        ValueError: bad times, or an EPD table for another network, other times or other guidance.
    """
    how, stage, table = request.sampling, request.stages[0], request.solver.table
    if table is not None:
        table.check(stage.times, max(how.cfg, 1.0), fingerprint(net.named_parameters()))
        if request.guided and not all(how.guides(t) for t in stage.times[:-1]):
            raise ValueError("the EPD table is for guidance in every call: widen the interval, such as -inf inf")
    context, null_context = condition
    shape = latent_shape(space, net.params.patch_size, stage.width, stage.height, len(context))
    scaled = partial(net, rope_scaling=rope_scaling)
    velocity = velocity_of(scaled, context, null_context, how.cfg, how.guidance_interval)
    noise = draw_noise(shape, request.seed).to(context.device)
    return request.solver.run(velocity, noise, stage.times, request.seed, callback)
