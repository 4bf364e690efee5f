"""What the network is asked for under a mask, where a known part of the image has to act on the unknown one."""

from __future__ import annotations

from torch import Tensor

# Velocities from above one time to below the other leave an image without details: too little noise is left to draw.
NEAR_NOISE, NEAR_PICTURE = 0.8, 0.25


def masked_target(t: Tensor, r: Tensor) -> Tensor:
    """The target time that the network gets for a step from t to r under a mask, (B,): t itself, which is a velocity.

    A transition leads to the one image that its state stands for, whatever the known part is; a velocity to the mean
    of all that are left, which the known part, set again before every step, narrows down. Only a step from near the
    noise to near the image stays a transition: the known part cannot act on it, and the mean of all is blurred. Both
    times, and that velocities are better elsewhere, are measured: benchmarks/inpainting.py.
    """
    return r.where((t > NEAR_NOISE) & (r < NEAR_PICTURE), t)
