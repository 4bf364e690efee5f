"""The loss of one process's part of a step: random numbers, dropped conditions, objective."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from tim_model import TiM
from tim_model.sampling.transport import get_transport, per_sample

from ..config.schema import Config
from ..data.batches import Batch
from ..objectives.draws import Draws
from ..objectives.loss import LossOutput
from ..objectives.objectives import make_objective
from ..objectives.repa import ImageEncoder
from ..objectives.sample import Network, Sample
from ..objectives.times import draw_times

HELD_OUT_STEP = 2**40  # the step number for random numbers of the held-out loss; no run gets that far


class StepLoss:
    """The configured objective as a function of (network, batch, step).

    Args:
        ema: the network of the guidance-enhanced target.
        patch_size: pixels or cells per token and side.
        teacher: the network of `objective.teacher`, if that is set.
    """

    def __init__(self, config: Config, ema: TiM, patch_size: int, device: torch.device, teacher: TiM | None = None):
        self.objective = make_objective(config.objective, ema, teacher)
        self.transport = get_transport(config.objective.transport)
        self.config = config.objective
        self.seed = config.run.seed
        self.dropout = config.data.dropout
        self.patch_size = patch_size
        self.encoder = ImageEncoder(config.objective.repa, device) if config.objective.repa else None

    def __call__(self, net: Network, batch: Batch, step: int, wrapped: Network | None = None) -> LossOutput:
        """The objective on a batch; randomness depends only on (seed, step, position in the global batch).

        Args:
            net: for the passes without gradient.
            wrapped: the same network for the pass with gradient, inside the DDP wrapper; `net` by default.
        """
        draws = Draws(self.seed, step, batch.positions.tolist())
        device = batch.x.device
        noise = draws.normal("noise", batch.x.shape[1:]).to(batch.x, non_blocking=True)
        h, w = (side // self.patch_size for side in batch.x.shape[-2:])
        times = torch.stack(draw_times(draws, batch.total, self.config, h * w), dim=1)
        t, r = times.to(device, non_blocking=True).unbind(dim=1)
        dropped = (draws.uniform("dropout") < self.dropout).to(device, non_blocking=True)
        context = torch.where(per_sample(dropped, batch.context), batch.null_context, batch.context)
        h_target = None if self.encoder is None else self.encoder(batch.images, h, w)
        split = draws.uniform("split").to(device, non_blocking=True)
        contexts = context, batch.context, batch.null_context
        sample = Sample(
            batch.x, noise, t, r, *contexts, h_target=h_target, split=split, cpu_times=times, step=step,
            mask=batch.masks, weight=batch.weights,
        )  # fmt: skip
        return self.objective(net, self.transport, sample, wrapped=wrapped)

    def total(self, out: LossOutput) -> Tensor:
        """The total loss, a scalar."""
        return out.weighted_loss + self.config.repa_weight * out.proj_loss


@torch.no_grad()
def held_out_losses(
    loss: StepLoss, net: TiM, batches: Iterable[tuple[int, Batch]], device: torch.device
) -> dict[int, float]:
    """Unweighted losses of held-out samples by index, always at the same times and noise; NaN for none.

    Args:
        batches: the part of each batch that this process works on, and where the batch begins; see `Data`.
    """
    losses: dict[int, float] = {}
    for place, batch in batches:
        out = loss(net, batch.to(device), HELD_OUT_STEP + place)
        own = torch.where(out.finite, out.denoising_loss.float(), torch.nan).tolist()
        losses.update(zip((place + batch.positions).tolist(), own, strict=True))
    return losses


def mean_loss(parts: Sequence[Mapping[int, float]]) -> float:
    """The mean over all processes, in the order of the samples."""
    losses = {place: value for part in parts for place, value in part.items()}
    return float(torch.tensor([losses[place] for place in sorted(losses)]).mean())
