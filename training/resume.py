"""Which state a run goes on from, whether it is one of the same training, and what has changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tim_model import TiM
from tim_model.files import CheckpointError

from .config import ConfigError
from .lora import configured_lora, layers_summary, lora_layers, state_layers
from .optimizer import HYPERPARAMETERS
from .origin import FILES, differences, held_out_digests, recipe_of
from .sections import Config
from .setup import Parts
from .state import States, find_state, read_state

ANOTHER = "another run.folder=… starts another run"
KEYS = ("step", "seconds", "failures", "net", "ema", "optimizer", "scaler", "random", "params", "metadata")


def state_to_resume(config: Config, states: States, tell: bool) -> dict | None:
    """The state that `resume` means, None for a fresh run.

    Args:
        tell: whether damaged states are told.

    Raises:
        ConfigError: another state than the newest of those in the run folder is meant.
        CheckpointError: there is no such state, or none that is whole.
    """
    resume, newest = config.resume, states.newest()
    told = find_state(Path(resume)) if resume not in ("auto", "none") else None
    if newest and resume != "auto" and (told is None or told.resolve() != newest.resolve()):
        advice = f"resume=auto goes on from {newest.name}, another run.folder leaves them alone"
        raise ConfigError(f"resume={resume}, but {states.folder} holds states: {advice}")
    if told or not newest:
        return whole(read_state(told), told) if told else None
    state, problems = states.read_newest()
    whole(state, states.path(state["step"]))
    for problem in problems if tell else ():
        print(f"{problem}: set aside, the run goes on from step {state['step']}")
    return state


def whole(state: dict, path: Path) -> dict:
    """The state itself; CheckpointError for one of another command."""
    if lacking := [key for key in KEYS if key not in state]:
        raise CheckpointError(f"{path}: is no state of training.train, lacks {', '.join(lacking)}; {ANOTHER}")
    return state


def check_state(state: Mapping[str, dict], origin: Mapping[str, object], config: Config, parts: Parts) -> list[str]:
    """What has changed since a state was written, in lines.

    Raises:
        ConfigError: it was trained on other data, from another checkpoint or towards another objective, and the config
            does not say that this is meant.
    """
    changed = differences(state, origin, config)
    told = f"the state of step {state['step']} is of another training: {'; '.join(changed.values())}"
    if changed and not config.resume_changed:
        ways = "another run.folder=… starts another run"
        if state["params"] == parts.params.to_dict():
            ways += ", resume_changed=true goes on from this state all the same"
        if config.resume not in ("auto", "none"):
            ways += "; for its weights alone, export it with python -m training.export and name it in model.checkpoint"
        raise ConfigError(f"{told}: {ways}")
    lines = [f"{told}: the run goes on, as resume_changed=true says"] if changed else []
    if "data.path" in changed:
        lines.append("the data has changed since the state was written: the order of samples is another one from here")
    check_network(state, config, parts)
    return [
        *lines,
        *changed_settings(state, config, changed),
        *changed_position(state, parts),
        *new_held_out(state, parts),
    ]


def check_network(state: Mapping[str, dict], config: Config, parts: Parts) -> None:
    """Raise ConfigError unless a state is of the network, and the LoRA, that the config means."""
    step, before, params = state["step"], state["params"], parts.params.to_dict()
    if before != params:
        names = [name for name in {**before, **params} if before.get(name) != params.get(name)]
        told, meant = ({name: values.get(name) for name in names} for values in (before, params))
        raise ConfigError(f"the state of step {step} has params {told}, the config means {meant}; {ANOTHER}")
    net = TiM(parts.params, device="meta")
    if config.model.trains_lora:
        configured_lora(net, config.model)
    layers, found = state_layers(state), lora_layers(net)
    if layers != found:
        told, meant = layers_summary(layers), layers_summary(found)
        raise ConfigError(f"the state of step {step} has lora: {told}; the config means: {meant}; {ANOTHER}")


def changed_settings(state: Mapping[str, dict], config: Config, told: Mapping[str, str]) -> list[str]:
    """A line for each setting with another value than in the state's recipe, those in `told` excepted.

    Of the model there are files and dropout: the rest of it is in the state, and checked.
    """
    old, lines = recipe_of(state), []
    skipped = {*told, "run.folder", *(f"optimizer.{name}" for name in HYPERPARAMETERS)}
    for section, values in asdict(config).items():
        before = old.get(section, {})
        for name in values if isinstance(values, dict) else ():
            key = f"{section}.{name}"
            may_change = section != "model" or key in (*FILES, "model.lora_dropout")
            if may_change and key not in skipped and name in before and before[name] != values[name]:
                lines.append(f"{key}: {before[name]} in the state, {values[name]} from here")
    return lines


def changed_position(state: Mapping[str, dict], parts: Parts) -> list[str]:
    """A line where an epoch has another number of steps than before, so that the same step is at another epoch."""
    step, before, now = state["step"], state.get("steps_per_epoch"), parts.data.batches_per_epoch
    if before in (None, now):
        return []
    was, comes = f"{step / before:.2f}", f"{step / now:.2f}"
    told = f"step {step} was at epoch {was} and is at {comes}, in another order of samples"
    return [f"an epoch had {before} steps and has {now} from here: {told}"]


def new_held_out(state: Mapping[str, dict], parts: Parts) -> list[str]:
    """A line where samples are held out that were not before: the held-out loss flatters them."""
    now, step = held_out_digests(parts), state["step"]
    if not now:
        return []
    if "held_out" not in state:
        what = f"the state does not tell which samples were held out: the {len(now)} of now"
    elif new := len(set(now) - set(state["held_out"])):
        what = f"{new} of {len(now)} held-out samples were not held out before: they"
    else:
        return []
    return [f"{what} may have been trained on up to step {step}, and the held-out loss may be too low"]
