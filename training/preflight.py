"""What is checked before anything is encoded or written, and a dry run, which does no more than that and tells it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .config import ConfigError, to_yaml
from .engine import Engine
from .logs import read_csv
from .memory import describe_memory, estimate
from .origin import origin
from .precision import describe_precision
from .resume import check_state, state_to_resume
from .samples import sheet_shape
from .sections import Config
from .setup import Parts, build_parts, describe, parameter_counts
from .share import together
from .state import States


def check_start(config: Config, parts: Parts, state: Mapping | None) -> None:
    """Refuse what would end the run later, after its pictures and captions are encoded.

    Raises:
        ValueError: a LoRA without a model, settings of the sample sheet that do not fit, or a run folder that is none.
    """
    if state is None and config.model.trains_lora and not config.model.checkpoint:
        raise ConfigError("model.checkpoint: is not set, expected the model that the LoRA is for, not a fresh one")
    sheet_shape(parts, config)
    folder = Path(config.run.folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"run.folder={folder}: is a file, expected a folder or a new name")
    read_csv(folder / "log.csv")


def dry_run(config: Config) -> None:
    """Print what a run would do; the config first, so that it is seen whatever is refused then."""
    print(to_yaml(config), flush=True)
    engine = Engine(config.run)
    with together():
        keep = config.checkpoint
        states = States(Path(config.run.folder) / "states", keep.keep_last, keep.keep_every)
        state = state_to_resume(config, states, tell=True)
        parts = build_parts(config, write=False, state=state)
        changed = check_state(state, origin(config, parts), config, parts) if state else []
        check_start(config, parts, state)
        lines = [*changed, describe_start(config, state)]
        lines += [*describe_plan(config, parts, engine)]
        if engine.is_main:
            print("\n".join(lines))
    engine.close()


def describe_start(config: Config, state: Mapping | None) -> str:
    """Where a run would begin, in one line."""
    if state is None:
        return "from step 0, a fresh run"
    step, run = state["step"], config.run
    if step >= run.steps:
        return f"from step {step}: nothing would be trained, run.steps={run.steps}; a larger run.steps goes on"
    if 0 < run.max_minutes * 60 <= state["seconds"]:
        minutes = f"{state['seconds'] / 60:.2g} min is trained, run.max_minutes={run.max_minutes:g}"
        return f"from step {step}: nothing would be trained, {minutes}; a larger run.max_minutes goes on"
    return f"from step {step}"


def describe_plan(config: Config, parts: Parts, engine: Engine) -> list[str]:
    """Data, network, batches and memory of a run, in lines."""
    trained, total = parameter_counts(parts.params, config.model)
    precision = describe_precision(config.run.precision, engine.device)
    return [
        parts.data.table(),
        f"held out: {len(parts.data.held_out)}, steps an epoch: {parts.data.batches_per_epoch}",
        describe(parts),
        f"trained: {trained / 1e6:.2f}M of {total / 1e6:.2f}M parameters",
        describe_tokens(parts),
        *passes(config, engine.world),
        "sample sheet: " + ("one" if sheet_shape(parts, config) else "none (sampling.every, prompts or model.vae)"),
        f"processes: {engine.world}, device: {engine.device}",
        f"precision: {precision}",
        describe_memory(estimate(config, parts.params, engine.precision, engine.world, largest(parts))),
    ]


def cells(parts: Parts, bucket: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a bucket's states."""
    ratio = 1 if parts.dataset.latent else parts.space.ratio
    return bucket[0] // ratio, bucket[1] // ratio


def describe_tokens(parts: Parts) -> str:
    """Tokens of a picture in each bucket, in one line."""
    sizes = sorted({sample.bucket for sample in parts.dataset.samples})
    patch = parts.params.patch_size
    counts = [(w, h, cells(parts, (w, h))) for w, h in sizes]
    return "tokens a picture: " + ", ".join(f"{w}x{h}: {(a // patch) * (b // patch)}" for w, h, (a, b) in counts)


def largest(parts: Parts) -> tuple[tuple[int, int, int], int]:
    """Shape (C,H,W) of the largest states, and tokens of the longest caption as the network sees it."""
    width, height = max((cells(parts, sample.bucket) for sample in parts.dataset.samples), key=lambda s: s[0] * s[1])
    return (parts.space.channels, height, width), parts.data.longest_caption


def passes(config: Config, world: int) -> list[str]:
    """What is unusual about how batches are split, in lines."""
    batch, accumulation = config.data.batch_size, config.optimizer.accumulation
    lines = []
    if batch < world:
        lines.append(f"note: data.batch_size={batch} for {world} processes: {world - batch} of them have nothing to do")
    if accumulation > (own := -(-batch // world)):
        lines.append(f"note: optimizer.accumulation={accumulation}, but a process has {own} samples: {own} passes")
    return lines
