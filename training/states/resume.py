"""Resuming a run: which state, whether it belongs to the same training, and what has changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tim_model import TiM
from tim_model.files.tensor_files import CheckpointError

from ..components.parts import Parts
from ..config.load import ConfigError
from ..config.schema import Config
from ..optim.lora import configured_lora, layers_summary, lora_layers, state_layers
from ..optim.optimizer import HYPERPARAMETERS
from .origin import FILES, differences, held_out_digests, recipe_of
from .states import States, find_state, read_state

ANOTHER = "another run.folder=… starts another run"
KEYS = ("step", "seconds", "failures", "net", "ema", "optimizer", "scaler", "random", "params", "metadata")


def state_to_resume(config: Config, states: States, report: bool) -> dict | None:
    """The state to resume from by the setting `resume`, None for a new run.

    Args:
        report: whether to print a line for each damaged state.

    Raises:
        ConfigError: the run folder has states, and `resume` is not the newest of them.
        CheckpointError: no such state, or no intact state.
    """
    resume, newest = config.resume, states.newest()
    named = find_state(Path(resume)) if resume not in ("auto", "none") else None
    if newest and resume != "auto" and (named is None or named.resolve() != newest.resolve()):
        advice = f"resume=auto goes on from {newest.name}, another run.folder leaves them alone"
        raise ConfigError(f"resume={resume}, but {states.folder} holds states: {advice}")
    if named or not newest:
        return whole(read_state(named), named) if named else None
    state, problems = states.read_newest()
    whole(state, states.path(state["step"]))
    for problem in problems if report else ():
        print(f"{problem}: set aside, the run goes on from step {state['step']}")
    return state


def whole(state: dict, path: Path) -> dict:
    """The state unchanged; CheckpointError for a state of another command."""
    if lacking := [key for key in KEYS if key not in state]:
        raise CheckpointError(f"{path}: is no state of training.train, lacks {', '.join(lacking)}; {ANOTHER}")
    return state


def check_state(state: Mapping[str, dict], origin: Mapping[str, object], config: Config, parts: Parts) -> list[str]:
    """Lines on what has changed since a state was written.

    Raises:
        ConfigError: other data, another checkpoint or another objective, without `resume_changed` in the config.
    """
    changed = differences(state, origin, config)
    problem = f"the state of step {state['step']} is of another training: {'; '.join(changed.values())}"
    if changed and not config.resume_changed:
        ways = "another run.folder=… starts another run"
        if state["params"] == parts.params.to_dict():
            ways += ", resume_changed=true goes on from this state all the same"
        if config.resume not in ("auto", "none"):
            ways += "; for its weights alone, export it with python -m training.export and name it in model.checkpoint"
        raise ConfigError(f"{problem}: {ways}")
    lines = [f"{problem}: the run goes on, as resume_changed=true says"] if changed else []
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
    """Raise ConfigError unless a state has the network, the LoRA and the optimizer of the config."""
    step, before, params = state["step"], state["params"], parts.params.to_dict()
    if before != params:
        names = [name for name in {**before, **params} if before.get(name) != params.get(name)]
        held, meant = ({name: values.get(name) for name in names} for values in (before, params))
        raise ConfigError(f"the state of step {step} has params {held}, the config means {meant}; {ANOTHER}")
    net = TiM(parts.params, device="meta")
    if config.model.trains_lora:
        configured_lora(net, config.model)
    layers, found = state_layers(state), lora_layers(net)
    if layers != found:
        held, meant = layers_summary(layers), layers_summary(found)
        raise ConfigError(f"the state of step {step} has lora: {held}; the config means: {meant}; {ANOTHER}")
    held, meant = recipe_of(state).get("optimizer", {}).get("name", "adamw"), config.optimizer.name
    if held != meant:  # states of older versions are of adamw
        weights = "for its weights alone, export it with python -m training.export and name it in model.checkpoint"
        raise ConfigError(f"the state of step {step} is of optimizer.name={held}, here {meant}: {ANOTHER}; {weights}")


def changed_settings(state: Mapping[str, dict], config: Config, known: Mapping[str, str]) -> list[str]:
    """A line for each setting that differs from the state's recipe, except those in `known`.

    Of the model, only files and dropout are compared; everything else is in the state and checked there.
    """
    old, lines = recipe_of(state), []
    skipped = {*known, "run.folder", *(f"optimizer.{name}" for name in HYPERPARAMETERS)}
    for section, values in asdict(config).items():
        before = old.get(section, {})
        for name in values if isinstance(values, dict) else ():
            key = f"{section}.{name}"
            may_change = section != "model" or key in (*FILES, "model.lora_dropout")
            if may_change and key not in skipped and name in before and before[name] != values[name]:
                lines.append(f"{key}: {before[name]} in the state, {values[name]} from here")
    return lines


def changed_position(state: Mapping[str, dict], parts: Parts) -> list[str]:
    """A line if an epoch has another number of steps than before, so that the step belongs to another epoch."""
    step, before, now = state["step"], state.get("steps_per_epoch"), parts.data.batches_per_epoch
    if before in (None, now):
        return []
    was, comes = f"{step / before:.2f}", f"{step / now:.2f}"
    places = f"step {step} was at epoch {was} and is at {comes}, in another order of samples"
    return [f"an epoch had {before} steps and has {now} from here: {places}"]


def new_held_out(state: Mapping[str, dict], parts: Parts) -> list[str]:
    """A line if samples are held out that may have been trained on: their held-out loss may be too low."""
    now, step = held_out_digests(parts), state["step"]
    if not now:
        return []
    if "held_out" not in state:
        what = f"the state does not record which samples were held out: the {len(now)} of now"
    elif new := len(set(now) - set(state["held_out"])):
        what = f"{new} of {len(now)} held-out samples were not held out before: they"
    else:
        return []
    return [f"{what} may have been trained on up to step {step}, and the held-out loss may be too low"]
