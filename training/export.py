"""Export weights from the state of a run: python -m training.export STATE OUT [--raw]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tim_model.files.tensor_files import check_target

from .processes.command import run_command
from .states.states import find_state, read_state
from .states.weights import write_weights


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. Errors are one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("state", type=Path, help="a state (step-N.pt), or a run folder for its newest one")
    parser.add_argument("out", type=Path, help="the .safetensors file to write")
    parser.add_argument("--raw", action="store_true", help="the weights as trained, not their average (EMA)")
    return run_command(
        parser, lambda arguments: export(arguments.state, arguments.out, "raw" if arguments.raw else "ema"), argv
    )


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


if __name__ == "__main__":
    sys.exit(main())
