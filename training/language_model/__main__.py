"""Train a small Gemma-3 on captions: python -m training.language_model RECIPE.yaml [key=value ...]

A text encoder for data whose captions have few words.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tim_model.files.tensor_files import check_target

from ..processes.command import run_command
from .trainer import load_language_model_config, train, write
from .word_tokenizer import read_captions


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. Errors are one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.language_model", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path, help="a .yaml file, such as training/recipes/demo/language_model.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as run.steps=500 data.path=scenes")

    def work(arguments: argparse.Namespace) -> None:
        config = load_language_model_config(arguments.recipe, arguments.overrides)
        captions = read_captions(Path(config.data.path))
        check_target(Path(config.run.packed))
        Path(config.run.folder).mkdir(parents=True, exist_ok=True)
        tokenizer, model = train(config, captions)
        write(model, tokenizer, config)
        print(f"wrote {config.run.folder} and {config.run.packed}")

    return run_command(parser, work, argv, "stopped; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
