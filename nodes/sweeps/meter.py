"""What sampling runs cost: network calls and seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

from comfy.patcher_extension import WrappersMP
from torch import Tensor

KEY = "TiM meter"


@dataclass(frozen=True)
class Cost:
    """The cost of a run: network calls of one image, and seconds without those of loading the model.

    A pass with the prompt and one without it are two calls, also where the host joins them in one batch.
    """

    calls: float
    seconds: float


class Meter:
    """Measures the runs of a MODEL: sample with `model`, read `costs`, one for each run.

    Calls are counted where the network itself runs. A patch that spares some of its passes, such as EasyCache, is seen
    in networks that have the host's wrapper around these; in others each call of the host's model counts.
    """

    def __init__(self, model):
        self.costs: list[Cost] = []
        self.passes: dict[str, list[int]] = {}  # images in each
        self.model = model.clone()
        self.model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, self.run)
        for place in (WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL):
            self.model.add_wrapper_with_key(place, KEY, self.counted(place))

    def counted(self, place: str):
        def call(executor, x: Tensor, *args, **options) -> Tensor:
            self.passes[place].append(len(x))
            return executor(x, *args, **options)

        return call

    def run(self, executor, guider, sigmas: Tensor, extra_args, callback, noise: Tensor, *rest) -> Tensor:
        self.passes = {WrappersMP.APPLY_MODEL: [], WrappersMP.DIFFUSION_MODEL: []}
        start = time.perf_counter()
        samples = executor(guider, sigmas, extra_args, callback, noise, *rest)
        samples.flatten()[:1].tolist()  # waits for the device
        seconds = time.perf_counter() - start
        images = sum(self.passes[WrappersMP.DIFFUSION_MODEL]) or sum(self.passes[WrappersMP.APPLY_MODEL])
        self.costs.append(Cost(images / len(noise), seconds))
        return samples
