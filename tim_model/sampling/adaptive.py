"""As many transitions as each image needs: one jump to the end against two says how many that is.

A transition leads to where any transitions in its place lead (arXiv 2509.04394, section 3), so what differs between a
jump t -> r and the jumps t -> s -> r is an error of the network that is seen without any reference.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .sampler import Sampling, Step, check_ends, per_image, predictor, sample
from .schedule import make_times

logger = logging.getLogger(__name__)

PROBES = 4  # calls after which each image is done or knows how many more it needs
LEAST = PROBES + 2  # calls, from which on images can differ
PLACES = 0.75, 0.6  # of the way, where the first two steps lead: the demo's tuned times of three, docs/solvers.md

Report = Callable[[Step], None]


def sizes(x: Tensor) -> Tensor:
    """The norms (B,) of the images of x (B,...)."""
    return x.flatten(1).norm(dim=1)


class Transitions:
    """The state (B,...) of images whose steps differ, and the network that moves it; calls are counted.

    Attributes:
        x: the state.
        images: the last image that was seen of each.
    """

    def __init__(self, predict: Callable[[Tensor, float, Tensor], Tensor], x: Tensor, report: Report | None):
        self.predict, self.x, self.images, self.report, self.calls = predict, x, x, report, 0

    def jump(self, x: Tensor, t: float, r: Tensor, moving: Tensor) -> Tensor:
        """x at the times r (B,) where it is `moving` (B,), else as it is."""
        F = self.predict(x, t, r)
        F = torch.where(per_image(x, moving), F, (x - self.images) / t)  # which leads to the image seen before
        self.images = x - t * F
        x_r = torch.where(per_image(x, moving), x - per_image(x, t - r) * F, x)
        self.calls += 1
        if self.report is not None:
            self.report(Step(self.calls - 1, t, float(r.min()), x, F, x_r))
        return x_r

    def jump_all(self, x: Tensor, t: float, r: float) -> Tensor:
        everyone = torch.ones(len(x), dtype=torch.bool, device=x.device)
        return self.jump(x, t, x.new_full((len(x),), r), everyone)

    def probe(self, start: float, t: float, s: float, end: float) -> tuple[Tensor, Tensor]:
        """Go to t and s; returns the end by t -> s -> end, and the relative distance (B,) to it by t -> end."""
        x_t = self.jump_all(self.x, start, t)
        direct = self.jump_all(x_t, t, end)
        self.x = self.jump_all(x_t, t, s)
        found = self.jump_all(self.x, s, end)
        return found, sizes(found - direct) / sizes(found)

    def finish(self, found: Tensor, times: Sequence[float], strides: Sequence[int]) -> Tensor:
        """The ends: `found` for images with stride 0, of others by every stride-th of the times."""
        done = torch.tensor([stride == 0 for stride in strides], device=self.x.device)
        self.x = torch.where(per_image(self.x, done), found, self.x)
        for i, t in enumerate(times[:-1]):
            moving = [stride > 0 and i % stride == 0 for stride in strides]
            if any(moving):
                r = [times[i + stride] if moves else t for moves, stride in zip(moving, strides, strict=True)]
                self.x = self.jump(self.x, t, self.x.new_tensor(r), done.new_tensor(moving))
        return self.x


@torch.no_grad()
def sample_adaptively(
    net: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    noise: Tensor,
    times: Sequence[float],
    tolerance: float,
    context: Tensor,
    null_context: Tensor | None = None,
    callback: Report | None = None,
    **settings,
) -> Tensor:
    """`sample` in no more network calls than `times` has steps, and in fewer for images that need no more.

    After a first step each image is made in one jump and in two. Where these differ by no more than the tolerance the
    second is final; else the image goes on from between, in about as many steps as make the difference that small if
    errors fall as steps get shorter. Steps of different images start at the same times, so that one call serves them
    all, and no image depends on the others. Of `times` only the ends and the number count; fewer than `LEAST` steps are
    taken as they are.

    Args:
        net, noise, context, null_context: as for `sample`.
        tolerance: above 0; of the distance between the two over the size of the second.
        callback: called after every network call; r is the lowest of all images.
        settings: of `Sampling`: cfg and guidance_interval.

    Raises:
        ValueError: as for `sample`, a bad tolerance, or settings that are not those of plain transitions.
    """
    how = plain_settings(tolerance, **settings)
    times = check_ends([float(t) for t in times], how.transport)
    if len(times) - 1 < LEAST:
        logger.warning(f"{len(times) - 1} network calls: a tolerance has nothing to choose below {LEAST}")
        return sample(net, noise, times, context, null_context, callback=callback, **settings)
    predict = predictor(net, context, null_context, how, times)
    run = Transitions(predict, noise.to(torch.promote_types(noise.dtype, torch.float32)), callback)
    return through(run, times[0], times[-1], len(times) - 1, tolerance)


def plain_settings(tolerance: float, **settings) -> Sampling:
    """The settings of plain transitions; ValueError for any other, or a bad tolerance."""
    how = Sampling(**settings)
    check_tolerance(tolerance)
    if how != Sampling(how.cfg, how.guidance_interval):
        raise ValueError("a tolerance with stochasticity, restarts, velocities or another transport: leave one out")
    return how


def through(run: Transitions, start: float, end: float, most: int, tolerance: float) -> Tensor:
    """The ends of all images in at most so many calls, which are logged."""
    t, s = (end + place * (start - end) for place in PLACES)
    later = make_times("uniform", later_steps(most), s, end)
    found, differences = run.probe(start, t, s, end)
    strides = choose_strides(differences.tolist(), tolerance, len(later) - 1)
    x = run.finish(found, later, strides)
    own = Counter(PROBES + ((len(later) - 1) // stride if stride else 0) for stride in strides)
    counts = ", ".join(f"{calls} ({count}x)" for calls, count in sorted(own.items()))
    logger.info(f"{run.calls} network calls of at most {most}; each image by itself: {counts}")
    return x


def check_tolerance(tolerance: float) -> None:
    """ValueError for a tolerance that is not above 0, or not finite."""
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance={tolerance:g}: expected a number above 0, such as 0.15")


def later_steps(most: int) -> int:
    """The most steps after the probes that can be halved often: 2, 3, 4, 6, 8, 12, 16 and so on."""
    left = most - PROBES
    power = 1 << (left.bit_length() - 1)
    return power * 3 // 2 if left >= power * 3 // 2 and power > 1 else power


def choose_strides(differences: Sequence[float], tolerance: float, steps: int) -> list[int]:
    """For each image 0 if it is done, else how many of the later steps it takes at once.

    Errors of n steps are taken for 1/n of that of one step, so that what n steps leave is 2/n of the difference
    between one and two; one of them is taken already.
    """
    halvings = [1 << k for k in range(steps.bit_length()) if steps % (1 << k) == 0 and steps >> k >= 2]

    def stride(difference: float) -> int:
        if difference <= tolerance:
            return 0
        needed = 2 * difference / tolerance - 1
        return max((n for n in halvings if steps // n >= needed), default=1)

    return [stride(difference) for difference in differences]
