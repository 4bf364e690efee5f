"""The samplers of a ComfyUI as solvers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

NAMES = ("euler", "heun", "dpmpp_2m", "res_multistep", "ipndm")


def host_solvers() -> dict[str, Callable]:
    """The host's samplers by name; none without TIM_HOST_DIR."""
    if "TIM_HOST_DIR" not in os.environ:
        return {}
    sys.path.insert(0, os.environ["TIM_HOST_DIR"])
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    from comfy.k_diffusion import sampling

    return {name: as_solver(getattr(sampling, f"sample_{name}")) for name in NAMES}


def as_solver(sampler: Callable) -> Callable:
    def solver(velocity: Callable, noise: Tensor, times: list[float]) -> Tensor:
        def model(x: Tensor, sigma: Tensor, **_: object) -> Tensor:
            t = float(sigma[0])
            return x - t * velocity(x, t)

        model.inner_model = flow_guider()
        return sampler(model, noise, torch.tensor(times), extra_args={"seed": 0}, disable=True)

    return solver


def flow_guider() -> SimpleNamespace:
    """What newer hosts ask of the guider behind a sampler: that its model is one of flow matching."""
    from comfy.model_sampling import CONST

    patcher = SimpleNamespace(get_model_object=lambda name: CONST())
    return SimpleNamespace(inner_model=SimpleNamespace(model_sampling=CONST()), model_patcher=patcher)
