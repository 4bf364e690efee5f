"""Checks before anything is encoded or written, and the dry run, which only prints their results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..components.parts import Parts, build_parts, describe, parameter_counts
from ..config.load import ConfigError, to_yaml
from ..config.schema import Config
from ..optim.named import check_library, describe_optimizer
from ..processes.precision import describe_precision
from ..processes.processes import Processes
from ..processes.share import together
from ..states.origin import origin
from ..states.resume import check_state, state_to_resume
from ..states.states import States
from .length import describe_length, in_steps, length, length_key
from .logs import read_csv
from .memory import describe_memory, estimate
from .sample_sheet import sheet_shape


def check_start(config: Config, parts: Parts, state: Mapping | None) -> None:
    """Raise errors early that would otherwise end the run after images and captions are encoded.

    Raises:
        ValueError: a LoRA without a model, invalid settings of the sample sheet, an optimizer whose library is
            missing, or a run folder that is a file.
    """
    if state is None and config.model.trains_lora and not config.model.checkpoint:
        raise ConfigError("model.checkpoint: is not set, expected the model that the LoRA is for, not a fresh one")
    sheet_shape(parts, config)
    check_library(config.optimizer)
    folder = Path(config.run.folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"run.folder={folder}: is a file, expected a folder or a new name")
    read_csv(folder / "log.csv")


def dry_run(config: Config) -> None:
    """Print what a run would do; the config first, so that it is visible before any error."""
    print(to_yaml(config), flush=True)
    processes = Processes(config.run)
    with together():
        keep = config.checkpoint
        states = States(Path(config.run.folder) / "states", keep.keep_last, keep.keep_every)
        state = state_to_resume(config, states, report=True)
        parts = build_parts(config, write=False, state=state)
        config = in_steps(config, parts)
        changed = check_state(state, origin(config, parts), config, parts) if state else []
        check_start(config, parts, state)
        lines = [*changed, describe_start(config, state)]
        lines += [*describe_plan(config, parts, processes)]
        if processes.is_main:
            print("\n".join(lines))
    processes.close()


def describe_start(config: Config, state: Mapping | None) -> str:
    """The step at which a run would begin, in one line."""
    if state is None:
        return "from step 0, a fresh run"
    step, run = state["step"], config.run
    if step >= run.steps:
        return f"from step {step}: nothing would be trained, {length(run)}; a larger {length_key(run)} goes on"
    if 0 < run.max_minutes * 60 <= state["seconds"]:
        minutes = f"{state['seconds'] / 60:.2g} min is trained, run.max_minutes={run.max_minutes:g}"
        return f"from step {step}: nothing would be trained, {minutes}; a larger run.max_minutes goes on"
    return f"from step {step}"


def describe_training(config: Config, parts: Parts) -> list[str]:
    """Lines on length, optimizer and schedule of a run."""
    return [describe_length(config.run, parts), *describe_optimizer(config.optimizer, config.run.steps)]


def describe_plan(config: Config, parts: Parts, processes: Processes) -> list[str]:
    """Lines on data, network, batches and memory of a run."""
    trained, total = parameter_counts(parts.params, config.model)
    precision = describe_precision(config.run.precision, processes.device)
    return [
        parts.data.table(),
        f"held out: {len(parts.data.held_out)}, steps an epoch: {parts.data.batches_per_epoch}",
        *describe_training(config, parts),
        describe(parts),
        f"trained: {trained / 1e6:.2f}M of {total / 1e6:.2f}M parameters",
        describe_tokens(parts),
        *passes(config, processes.world),
        "sample sheet: " + ("one" if sheet_shape(parts, config) else "none (sampling.every, prompts or model.vae)"),
        f"processes: {processes.world}, device: {processes.device}",
        f"precision: {precision}",
        describe_memory(estimate(config, parts.params, processes.precision, processes.world, largest(parts))),
    ]


def cells(parts: Parts, bucket: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a bucket's states."""
    ratio = 1 if parts.dataset.latent else parts.space.ratio
    return bucket[0] // ratio, bucket[1] // ratio


def describe_tokens(parts: Parts) -> str:
    """The number of tokens per image in each bucket, in one line."""
    sizes = sorted({sample.bucket for sample in parts.dataset.samples})
    patch = parts.params.patch_size
    counts = [(w, h, cells(parts, (w, h))) for w, h in sizes]
    return "tokens an image: " + ", ".join(f"{w}x{h}: {(a // patch) * (b // patch)}" for w, h, (a, b) in counts)


def largest(parts: Parts) -> tuple[tuple[int, int, int], int]:
    """Shape (C,H,W) of the largest states, and tokens of the longest caption as the network sees it."""
    width, height = max((cells(parts, sample.bucket) for sample in parts.dataset.samples), key=lambda s: s[0] * s[1])
    return (parts.space.channels, height, width), parts.data.longest_caption


def passes(config: Config, world: int) -> list[str]:
    """Notes on unusual splits of batches."""
    batch, accumulation = config.data.batch_size, config.optimizer.accumulation
    lines = []
    if batch < world:
        lines.append(f"note: data.batch_size={batch} for {world} processes: {world - batch} of them have nothing to do")
    if accumulation > (own := -(-batch // world)):
        lines.append(f"note: optimizer.accumulation={accumulation}, but a process has {own} samples: {own} passes")
    return lines
