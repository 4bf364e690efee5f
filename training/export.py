"""Weights out of the state of a run: python -m training.export STATE OUT [--raw]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tim_model import TiM, TiMParams, save_checkpoint
from tim_model.console import escape_unprintable
from tim_model.files import check_target, naming
from tim_model.lora import Lora, write_lora

from .command import status_of
from .lora import state_layers, state_updates
from .state import find_state, read_state


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. What cannot be done is one line on stderr."""
    escape_unprintable()
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("state", type=Path, help="a state (step-N.pt), or a run folder for its newest one")
    parser.add_argument("out", type=Path, help="the .safetensors file to write")
    parser.add_argument("--raw", action="store_true", help="the weights as trained, not their average (EMA)")
    arguments = parser.parse_args(argv)
    return status_of(lambda: export(arguments.state, arguments.out, "raw" if arguments.raw else "ema"))


def export(path: Path, out: Path, kind: str) -> None:
    """Write the weights of a state, or of the newest one in a run folder; `kind` as for `write_weights`.

    Raises:
        ValueError: no such state, one of another command, or a file that cannot be written.
    """
    if out.suffix != ".safetensors":
        raise ValueError(f"{out}: expected a name that ends in .safetensors")
    check_target(out)
    state = read_state(find_state(path))
    if "params" not in state:
        raise ValueError(f"{path}: is no state of training.train, whose weights alone can be exported")
    print(f"wrote {write_weights(state, out, kind)}")


def write_weights(state: dict, out: Path, kind: str) -> Path:
    """Write a state's weights: a network in the released layout, or a LoRA in the names that ComfyUI reads.

    Args:
        kind: "ema" or "raw".
    """
    metadata = {**state["metadata"], "step": str(state["step"]), "weights": kind}
    weights = state["ema"]["net"] if kind == "ema" else state["net"]
    if state_layers(state):
        write_lora(Lora(state_updates(state, weights), {}, metadata), out)
        return out
    with naming(f"state of step {state['step']}"):
        net = build_trained(state, weights)
    save_checkpoint(net, out, metadata=metadata)
    return out


def step_of_weights(path: Path) -> int | None:
    """The step of a state whose weights a file holds; None where there is no such file."""
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


if __name__ == "__main__":
    sys.exit(main())
