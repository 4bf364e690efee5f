"""Nodes that change latents in pixels count 8 a cell for every model. Only the graph shows it, not the latent."""

from __future__ import annotations

from ..graph.nodes_before import nodes_before
from ..graph.notices import warn
from .empty_latents import STOCK_RATIO

PIXEL_NODES = {
    "LatentUpscale": "Upscale Latent", "LatentCrop": "Crop Latent", "LatentComposite": "Latent Composite",
    "LatentCompositeMasked": "Latent Composite Masked",
}  # fmt: skip


def warn_of_pixel_nodes(ratio: int) -> None:
    """Warn of nodes before the running one that count other pixels per cell than the `ratio` of its model."""
    if ratio == STOCK_RATIO:
        return
    for node in nodes_before():
        if node["class_type"] in PIXEL_NODES:
            width, height = node["inputs"].get("width"), node["inputs"].get("height")
            times = ratio / STOCK_RATIO
            known = isinstance(width, int) and isinstance(height, int)
            size = f", {width}x{height} as {width * times:g}x{height * times:g}" if known else ""
            warn(
                f"{PIXEL_NODES[node['class_type']]} counts 8 pixels a cell, this model's cells have {ratio}: what it "
                f"is set to comes out {times:g} times as large{size}; Upscale Latent By works for every model"
            )
