"""Warns of changes by nodes to parts of networks that TiM does not have."""

from __future__ import annotations

from ..graph.notices import warn
from .network import BLOCK


def warn_of_unused_patches(transformer_options: dict, depth: int) -> None:
    """Warn of changes by nodes to parts that this network of `depth` blocks does not have."""
    blocks = {(BLOCK, i) for i in range(depth)}
    found = {name for name, patches in transformer_options.get("patches", {}).items() if patches}
    for name, places in transformer_options.get("patches_replace", {}).items():
        if name == "dit":
            found |= {" ".join(map(str, place)) for place in places if place not in blocks}
        elif places:
            found.add(f"{name} of {', '.join(sorted({str(kind) for kind, *_ in places}))} blocks")
    if "rope_options" in transformer_options:
        found.add("rope_options")
    if found:
        warn(
            f"a node changes parts of the network that this TiM model does not have, without effect: "
            f"{', '.join(sorted(found))}; its blocks are {BLOCK} 0 to {depth - 1}"
        )
