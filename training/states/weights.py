"""Writes the weights of a state as a file that ComfyUI loads."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from tim_model import TiM, TiMParams, save_checkpoint
from tim_model.files.tensor_files import prefix_errors
from tim_model.lora.updates import Lora, write_lora

from ..optim.lora import state_layers, state_updates
from .states import read_state


def write_weights(state: dict, out: Path, kind: str) -> Path:
    """Write a state's weights: a network in the released layout, or a LoRA with ComfyUI's names.

    Args:
        kind: "ema" or "raw".
    """
    metadata = {**state["metadata"], "step": str(state["step"]), "weights": kind}
    weights = state["ema"]["net"] if kind == "ema" else state["net"]
    if state_layers(state):
        write_lora(Lora(state_updates(state, weights), {}, metadata), out)
        return out
    with prefix_errors(f"state of step {state['step']}"):
        net = build_trained(state, weights)
    save_checkpoint(net, out, metadata=metadata)
    return out


def export_weights(state: Path, folder: Path, name: str, kept_step: int | None) -> list[Path]:
    """Write a state's EMA and raw weights into a run folder; returns the files written.

    Args:
        name: prefix of the file names, "model" or "lora".
        kept_step: existing files with weights of this step are kept; None writes all.
    """
    files = {kind: folder / f"{name}-{kind}.safetensors" for kind in ("ema", "raw")}
    missing = {kind: file for kind, file in files.items() if kept_step is None or step_of_weights(file) != kept_step}
    content = read_state(state) if missing else {}
    return [write_weights(content, file, kind) for kind, file in missing.items()]


def step_of_weights(path: Path) -> int | None:
    """The step of the weights in a file; None without such a file."""
    try:
        with safe_open(path, framework="pt") as file:
            return int((file.metadata() or {})["step"])
    except (SafetensorError, OSError, LookupError, ValueError):
        return None


def build_trained(state: dict, weights: dict) -> TiM:
    """The network of a state's weights, without its REPA head."""
    net = TiM(TiMParams(**state["params"]).without_projector(), device="meta")
    net.load_state_dict({k: v for k, v in weights.items() if not k.startswith("projector.")}, assign=True)
    return net
