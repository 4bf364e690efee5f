"""The target time r of every network call: stated by samplers made of transitions, t itself for all others."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

import comfy.model_patcher
import comfy.samplers
import torch
from torch import Tensor

from ...tim_model.sampling.inpainting import masked_target
from ...tim_model.sampling.schedule import next_times
from ..graph.notices import warn
from .keys import FOREIGN, MASKED, TARGET, TRANSITIONS

# Samplers with one network call a step, which is x + (r - t) F: exact transitions once the network knows r.
TRANSITION_SAMPLERS = ("sample_euler", "sample_transitions")
STOCK_PACKAGES = ("comfy", "comfy_extras")
OWN_PACKAGE = __name__.removesuffix(".nodes.run.transitions")  # whose samplers take velocities on purpose
DEEPEST = 8  # samplers around samplers


def target_time(t: Tensor, transformer_options: dict) -> Tensor:
    """Where the step from t (B,) leads, float32 (B,), never above t.

    Samplers made of transitions state it. For one that is hidden inside another function, it follows from the schedule.
    All others get velocities along the path, r = t, and so do most transitions under a noise mask. A sampler of another
    pack that gets velocities is named in one warning.
    """
    t = t.float()
    if TARGET in transformer_options:
        r = t.minimum(stated_target(t, transformer_options[TARGET]))
    elif transformer_options.get(TRANSITIONS):
        r = next_times(t, transformer_options["sample_sigmas"].float())
    else:
        if FOREIGN in transformer_options:
            warn(
                f"sampler {transformer_options['tim_foreign']} is not known to be made of TiM's transitions, so the "
                "network gives it velocities (r = t), as for an ordinary flow model: for few steps take euler, ddim or "
                "TiM Transition Sampler"
            )
        return t
    return masked_target(t, r) if transformer_options.get(MASKED) else r


def stated_target(t: Tensor, target: float | Tensor) -> Tensor:
    """The target that a sampler states, for all images or (B,) for each, in the shape of t: guidance repeats images."""
    target = torch.as_tensor(target).to(t)
    return target.repeat(len(t) // len(target)) if target.ndim else target


class TargetModel:
    """The model that a transition sampler calls: its k-th call leads from sigmas[k] to sigmas[k + 1].

    Counting calls also works if a wrapper passes another sigma to the model, or samples part of a schedule.
    """

    def __init__(self, model: Callable[..., Tensor], sigmas: list[float]):
        self.model, self.targets = model, iter(sigmas[1:])

    def __call__(self, x: Tensor, sigma: Tensor, **options: Any) -> Tensor:
        model_options = comfy.model_patcher.create_model_options_clone(options.get("model_options", {}))
        target = next(self.targets, None)
        if target is not None:
            model_options.setdefault("transformer_options", {}).setdefault(TARGET, target)
        return self.model(x, sigma, **{**options, "model_options": model_options})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def passing_targets(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The transition sampler with a model that passes its target times to the network."""

    @functools.wraps(function)
    def sampler(model, x: Tensor, sigmas: Tensor, *args: Any, **options: Any) -> Tensor:
        return function(TargetModel(model, torch.as_tensor(sigmas).tolist()), x, sigmas, *args, **options)

    return sampler


def is_transition(value: Any) -> bool:
    return callable(value) and getattr(value, "__name__", None) in TRANSITION_SAMPLERS


def with_targets(value: Any, depth: int = DEEPEST) -> Any:
    """A sampler, or part of one, in which all transition samplers state their targets; `value` itself if it holds none.

    They are searched in options, attributes, partial functions and bound methods. Objects that hold one are copied,
    never changed.
    """
    if is_transition(value):
        return passing_targets(value)
    if depth == 0:
        return value
    if type(value) in (list, tuple):
        items = [with_targets(item, depth - 1) for item in value]
        return type(value)(items) if any(new is not old for new, old in zip(items, value)) else value
    if type(value) is dict:
        items = {key: with_targets(item, depth - 1) for key, item in value.items()}
        return items if any(items[key] is not value[key] for key in value) else value
    if isinstance(value, functools.partial):
        parts = value.func, value.args, value.keywords
        function, args, keywords = new = with_targets(parts, depth)
        return value if new is parts else functools.partial(function, *args, **keywords)
    if isinstance(value, types.MethodType):
        owner = with_attributes(value.__self__, depth)
        return value if owner is value.__self__ else types.MethodType(value.__func__, owner)
    return with_attributes(value, depth) if keeps_samplers(value) else value


def keeps_samplers(value: Any) -> bool:
    """Whether to search an object's attributes: samplers, callable objects and bundles of options."""
    if isinstance(value, (type, types.FunctionType)):
        return False
    is_sampler = isinstance(value, comfy.samplers.Sampler) or hasattr(value, "sampler_function")
    return is_sampler or callable(value) or dataclasses.is_dataclass(value)


def with_attributes(value: Any, depth: int) -> Any:
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is not dict or isinstance(value, (type, torch.nn.Module)):
        return value
    prepared = with_targets(attributes, depth)
    if prepared is attributes:
        return value
    new = copy.copy(value)
    vars(new).update(prepared)
    return new


def hides_transition(value: Any, depth: int = DEEPEST) -> bool:
    """Whether a sampler's function refers to a transition sampler from where it cannot be replaced, its closure."""
    if with_targets(value) is not value:
        return True
    function = getattr(value, "sampler_function", value)
    return depth > 0 and any(hides_transition(content, depth - 1) for content in closure_of(function))


def closure_of(function: Any) -> Iterator[Any]:
    for cell in getattr(function, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # a name that has no value yet
            yield cell.cell_contents


def named_function(function: Any) -> Any:
    """The function inside partial and decorated ones, which has a name and a module."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.unwrap(function)


def prepare_sampler(sampler: comfy.samplers.Sampler, model_options: dict) -> comfy.samplers.Sampler:
    """The sampler of a run, which passes the targets of its transitions, if it has any, to the network.

    Args:
        model_options: of the run, in which samplers that cannot be replaced, and names of foreign ones, are noted.
    """
    function = named_function(getattr(sampler, "sampler_function", type(sampler)))
    notes = model_options.setdefault("transformer_options", {})
    module = getattr(function, "__module__", None) or ""
    known = module.partition(".")[0] in STOCK_PACKAGES or module.startswith(f"{OWN_PACKAGE}.")
    if not known and not is_transition(function):
        notes[FOREIGN] = getattr(function, "__name__", type(function).__name__)
    prepared = with_targets(sampler)
    if prepared is sampler and hides_transition(sampler):
        notes[TRANSITIONS] = True
    return prepared
