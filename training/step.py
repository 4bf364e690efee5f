"""The loss of one process's part of a step: random numbers, dropped conditions, objective."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from tim_model import TiM

from .config import objective_settings, time_settings
from .data import Batch
from .loss import Guidance, LossOutput
from .objectives import OBJECTIVES
from .repa import ImageEncoder
from .sections import Config
from .times import Draws, draw_times

HELD_OUT_STEP = 2**40  # of the held-out loss's random numbers; no run gets there


class StepLoss:
    """The configured objective as a function of (network, batch, step).

    Args:
        ema: the network of the guidance-enhanced target.
        patch_size: pixels or cells per token and side.
    """

    def __init__(self, config: Config, ema: TiM, patch_size: int, device: torch.device):
        self.objective = OBJECTIVES[config.objective.name]
        self.config = config.objective
        self.settings = objective_settings(config.objective)
        self.time_settings = time_settings(config.objective)
        self.seed = config.run.seed
        self.dropout = config.data.dropout
        self.ema = ema
        self.patch_size = patch_size
        self.encoder = ImageEncoder(config.objective.repa, device) if config.objective.repa else None

    def __call__(self, net, batch: Batch, step: int) -> LossOutput:
        """The objective on a batch; all that is random depends on (seed, step, position in the whole batch) alone."""
        draws = Draws(self.seed, step, batch.positions.tolist())
        noise = draws.normal("noise", batch.x.shape[1:]).to(batch.x)
        h, w = (side // self.patch_size for side in batch.x.shape[-2:])
        t, r = (times.to(batch.x.device) for times in draw_times(draws, batch.total, self.time_settings, h * w))
        dropped = (draws.uniform("dropout") < self.dropout).to(batch.x.device)
        context = torch.where(expand(dropped, batch.context), batch.null_context, batch.context)
        return self.objective(
            net, batch.x, noise, t, r, context, self.settings,
            h_target=None if self.encoder is None else self.encoder(batch.images, h, w),
            guidance=self.guidance(batch), split=draws.uniform("split").to(batch.x.device),
        )  # fmt: skip

    def guidance(self, batch: Batch) -> Guidance | None:
        c = self.config
        if not c.guided:
            return None
        return Guidance(self.ema, batch.context, batch.null_context, c.w_gt, c.w_cond, c.w_start, c.w_end)

    def total(self, out: LossOutput) -> Tensor:
        """What is minimized, a scalar."""
        return out.weighted_loss + self.config.repa_weight * out.proj_loss


def expand(mask: Tensor, like: Tensor) -> Tensor:
    """A mask (B,) that broadcasts over `like` (B,...)."""
    return mask.view(-1, *(1,) * (like.ndim - 1))


@torch.no_grad()
def held_out_losses(
    loss: StepLoss, net: TiM, batches: Iterable[tuple[int, Batch]], device: torch.device
) -> dict[int, float]:
    """Unweighted losses of held-out samples by their place, at the same times and noise every time; NaN for none.

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
