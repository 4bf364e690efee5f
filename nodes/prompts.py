"""Prompts of nodes that are made for other text encoders: one for each of several, or with pictures."""

from __future__ import annotations

from torch import Tensor

from .notices import tell

OWN = "gemma3"


class Prompts(dict):
    """A prompt's tokens, as the host keeps them: by text encoder, in batches of (token, weight).

    Nodes such as CLIPTextEncodeFlux make one of several prompts: they ask each for the tokens of one encoder, and put
    them into the first. Every prompt has the tokens that it has for ours.
    """

    def __missing__(self, name: str) -> list:
        return list(self[OWN])


def chosen_prompt(prompts: dict[str, list]) -> list:
    """The tokens of the prompt to read: of several the last that says something, which the largest encoder gets."""
    given = {name: tokens[0] for name, tokens in prompts.items() if tokens and len(tokens[0]) > 1}
    if not given:
        return prompts[OWN][0]
    name, tokens = list(given.items())[-1]
    if any(other != tokens for other in given.values()):
        tell(f"of the prompts of this node, TiM's text encoder reads the one for {name}, the others are left out")
    return tokens


def tell_left_out(inputs: dict[str, object]) -> None:
    """Tell what a node gives a prompt beside its text; texts and numbers are templates and settings of other models."""
    found = [name for name, value in inputs.items() if isinstance(value, Tensor) or (value and type(value) is list)]
    if found:
        tell(f"TiM's text encoder reads text alone, it leaves out: {', '.join(found)}")
