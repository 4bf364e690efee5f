"""What images are asked for: the one record that the pipeline takes and that PNG files carry as their settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from .network.rope import RopeScaling
from .sampling.adaptive import check_tolerance
from .sampling.noise import Seed
from .sampling.progressive import Stage
from .sampling.sampler import Sampling
from .sampling.schedule import make_times
from .sampling.solvers.by_name import Solver

ENLARGE = ("pixels", "latents")  # what grows from stage to stage
NATIVE, PROGRESSIVE = STRATEGIES = ("native", "progressive")
CFG = 2.5  # guidance scale of the published models


@dataclass(frozen=True)
class Request:
    """Images to generate, one for each prompt or class; with the same files it gives the same images.

    Attributes:
        prompts, classes: one of them: texts for a text model, numbers or names for a class model.
        negative: negative prompt; the empty one as published.
        stages: sizes and times; one, or several of growing size.
        seed: of the noise; a tuple holds one for each image, which then does not depend on the others.
        sampling: guidance and the other settings of `sample`.
        rope: a name in `ROPE_SCALINGS`, for images beyond the native size.
        enlarge: what grows from stage to stage, "pixels" or "latents".
        solver: follows the network's velocities in place of its transitions; in one stage, without stochasticity.
        tolerance: as many transitions as each image needs, up to the number of steps; see `sample_adaptively`.
        strategy, renoise, large_steps, shift: how the stages were planned, for the record alone; see `plan_stages`.

    Raises:
        ValueError: prompts and classes, neither, none of them, an unknown name, or what a solver does not have.
    """

    prompts: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    negative: str = ""
    stages: tuple[Stage, ...] = ()
    seed: Seed = 0
    sampling: Sampling = field(default_factory=lambda: Sampling(cfg=CFG))
    rope: str = "none"
    enlarge: str | None = None  # pixels
    solver: Solver | None = None
    tolerance: float | None = None
    strategy: str = NATIVE
    renoise: float | None = None
    large_steps: int | None = None
    shift: bool | None = None

    def __post_init__(self):
        if (self.prompts is None) == (self.classes is None):
            raise ValueError("expected prompts for a text model, or classes for a class model")
        if not (self.prompts or self.classes):
            raise ValueError("[]: expected a text, or a list of texts, one for each image")
        if isinstance(self.seed, tuple) and len(self.seed) != len(self.prompts or self.classes):
            count = len(self.prompts or self.classes)
            raise ValueError(f"{len(self.seed)} seeds: expected one for each of {count} images")
        RopeScaling(self.rope, 1)  # refuses an unknown name
        if self.enlarge not in (None, *ENLARGE):
            raise ValueError(f"enlarge={self.enlarge!r}: expected one of {', '.join(ENLARGE)}")

        how = self.sampling
        if self.solver and (len(self.stages) > 1 or how.stochasticity or how.restart):
            raise ValueError("a solver with stochasticity, restarts or several stages: expected one stage and no noise")
        if self.tolerance is not None:
            check_tolerance(self.tolerance)
            if self.solver or len(self.stages) > 1:
                raise ValueError("a tolerance with a solver or several stages: expected one stage and no solver")

    @property
    def guided(self) -> bool:
        return self.sampling.cfg > 1

    def metadata(self) -> dict[str, object]:
        """What makes the same images again, for the PNG files of one prompt or class."""
        what = {"class": self.classes[0]} if self.prompts is None else {"prompt": self.prompts[0]}
        what |= {} if self.prompts is None else {"negative": self.negative}
        planned = {name: getattr(self, name) for name in ("renoise", "large_steps", "shift", "enlarge")}
        planned = {name: value for name, value in planned.items() if value is not None}
        if self.strategy == PROGRESSIVE:
            planned["stages"] = ", ".join(f"{stage.width}x{stage.height}" for stage in self.stages)
        how, last = self.sampling, self.stages[-1]
        solver = {"solver": self.solver.name} if self.solver else {}
        times = {"times": "; ".join(", ".join(f"{t:g}" for t in stage.times) for stage in self.stages)}
        times = times if self.tolerance is None else {"tolerance": self.tolerance}  # which has times of its own
        return {
            **what, "steps": len(self.stages[0].times) - 1, **times,
            "cfg": how.cfg, "guidance": "{:g} {:g}".format(*how.guidance_interval),
            "stochasticity": how.stochasticity, **({"restart": how.restart} if how.restart else {}), "seed": self.seed,
            "size": f"{last.width}x{last.height}", "strategy": self.strategy, **planned, "rope": self.rope,
            **solver,
        }  # fmt: skip


def as_texts(texts: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """One text, or several, as a tuple."""
    return texts if texts is None else (texts,) if isinstance(texts, str) else tuple(texts)


def gather(
    native_size: tuple[int, int],
    prompts: str | Sequence[str] | None = None,
    classes: str | Sequence[str] | None = None,
    stages: Sequence[Stage] | None = None,
    size: tuple[int, int] | None = None,
    times: Sequence[float] | None = None,
    steps: int = 4,
    **settings,
) -> Request:
    """The request for settings by keyword, as `TiMPipeline` is called with.

    Args:
        native_size: (width, height) in pixels where neither size nor stages are given.
        stages: sizes and times for larger images, from `TiMPipeline.plan`; they replace size, times and steps.
        size: (width, height) in pixels.
        times: from `make_times` or your own; they replace steps, which are equal ones.
        settings: of `Request`, such as seed and rope, and of `Sampling`, such as cfg (2.5 by default).

    Raises:
        ValueError: settings that exclude each other, in one line.
    """
    if stages is not None and (size or times):
        raise ValueError("stages have sizes and times of their own: leave size and times out")
    if stages is None:
        stages = [Stage(*(size or native_size), tuple(times or make_times("uniform", steps)))]
    names = {setting.name for setting in fields(Sampling)} & settings.keys()
    sampling = Sampling(**{"cfg": CFG, **{name: settings.pop(name) for name in names}})
    return Request(as_texts(prompts), as_texts(classes), stages=tuple(stages), sampling=sampling, **settings)
