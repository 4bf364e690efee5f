"""Prompts of nodes for other text encoders: one for each of several, or with images."""

from __future__ import annotations

from torch import Tensor

from ..graph.notices import warn

OWN = "gemma3"


class Prompts(dict):
    """A prompt's tokens, as the host keeps them: by text encoder, in batches of (token, weight).

    Nodes such as CLIPTextEncodeFlux combine several prompts: they read the tokens of one encoder from each prompt and
    put them into the first. For every encoder, a prompt returns its tokens of our encoder.
    """

    def __missing__(self, name: str) -> list:
        return list(self[OWN])


def chosen_prompt(prompts: dict[str, list]) -> list:
    """The tokens of the prompt to encode: the last non-empty one of several, which is that of the largest encoder."""
    given = {name: tokens[0] for name, tokens in prompts.items() if tokens and len(tokens[0]) > 1}
    if not given:
        return prompts[OWN][0]
    name, tokens = list(given.items())[-1]
    if any(other != tokens for other in given.values()):
        warn(f"of the prompts of this node, TiM's text encoder reads the one for {name}, the others are left out")
    return tokens


def warn_of_ignored_inputs(inputs: dict[str, object]) -> None:
    """Warn of images and lists that a node adds to a prompt; texts and numbers are settings of other models."""
    found = [name for name, value in inputs.items() if isinstance(value, Tensor) or (value and type(value) is list)]
    if found:
        warn(f"TiM's text encoder reads text alone, it leaves out: {', '.join(found)}")
