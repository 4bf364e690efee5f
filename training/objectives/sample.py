"""The input of an objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

Network = Callable[..., Tensor]  # (x_t (B,C,H,W), c_noise(t) (B,), c_noise(r) (B,), context) -> F like x_t


@dataclass(frozen=True)
class Sample:
    """B samples with noise, times and conditioning; rows with t = r are diffusion rows.

    Raises:
        ValueError: shapes that do not fit, or r > t.
    """

    x: Tensor  # clean latents (B,C,H,W)
    noise: Tensor  # like x
    t: Tensor  # transport times (B,)
    r: Tensor  # (B,), r <= t
    context: Tensor  # text features (B,L,context_dim) or labels (B,), some of them dropped
    full_context: Tensor | None = None  # like context, before dropout; for guidance
    null_context: Tensor | None = None  # like context, those of "no class" or the empty caption; for guidance
    h_target: Tensor | None = None  # features (B,N,z_dim) for the REPA head
    split: Tensor | None = None  # (B,), where split_meanflow divides an interval: 0 at r and 1 at t
    cpu_times: Tensor | None = None  # (B,2), t and r on the CPU, where rows are chosen without waiting for a device
    step: int = 0  # of the run, for modular_meanflow, which changes over it
    mask: Tensor | None = None  # (B,1,H,W) weights of the positions in a sample's loss; all count the same where None
    weight: Tensor | None = None  # (B,) of the samples in the total loss; 1 where None

    def __post_init__(self):
        x, noise, t, r = self.x, self.noise, self.t, self.r
        if x.ndim != 4 or noise.shape != x.shape:
            raise ValueError(
                f"x and noise have shapes {tuple(x.shape)} and {tuple(noise.shape)}: expected (B, C, H, W)"
            )
        if t.shape != x.shape[:1] or r.shape != x.shape[:1]:
            raise ValueError(
                f"t and r have shapes {tuple(t.shape)} and {tuple(r.shape)}: expected one time per sample, ({len(x)},)"
            )
        times = torch.stack([t, r], dim=1) if self.cpu_times is None else self.cpu_times
        object.__setattr__(self, "cpu_times", times.detach().cpu())
        if bool((self.cpu_times[:, 1] > self.cpu_times[:, 0]).any()):
            raise ValueError(f"t={t.tolist()}, r={r.tolist()}: expected r <= t in every sample")

    def rows(self, chosen: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The rows (n,) where `chosen` of (t, r) is true, on the CPU."""
        return chosen(*self.cpu_times.unbind(dim=1)).nonzero().flatten()

    def placed(self, rows: Tensor) -> Tensor:
        """Rows on the device of the sample."""
        return rows.to(self.x.device, non_blocking=True)

    def at(self, rows: Tensor) -> Sample:
        """The sample restricted to some rows (n,) of the CPU."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "cpu_times"}
        placed = self.placed(rows)
        values = {name: value[placed] if isinstance(value, Tensor) else value for name, value in values.items()}
        return Sample(**values, cpu_times=self.cpu_times[rows])

    def at_rest(self) -> Sample:
        """The sample with r = t in every row."""
        return replace(self, r=self.t, cpu_times=self.cpu_times[:, [0, 0]])
