"""Nodes that change latents in pixels count 8 a cell for every model. Only the graph shows it, not the latent."""

from __future__ import annotations

from .empty_latents import STOCK_RATIO
from .graph import nodes_before
from .notices import tell

PIXEL_NODES = {
    "LatentUpscale": "Upscale Latent", "LatentCrop": "Crop Latent", "LatentComposite": "Latent Composite",
    "LatentCompositeMasked": "Latent Composite Masked",
}  # fmt: skip


def tell_pixel_nodes(ratio: int) -> None:
    """Tell which nodes in front of the running one count other pixels than the `ratio` of a cell of its model."""
    if ratio == STOCK_RATIO:
        return
    for node in nodes_before():
        if node["class_type"] in PIXEL_NODES:
            width, height = node["inputs"].get("width"), node["inputs"].get("height")
            times = ratio / STOCK_RATIO
            known = isinstance(width, int) and isinstance(height, int)
            size = f", {width}x{height} as {width * times:g}x{height * times:g}" if known else ""
            tell(
                f"{PIXEL_NODES[node['class_type']]} counts 8 pixels a cell, this model's cells have {ratio}: what it "
                f"is set to comes out {times:g} times as large{size}; Upscale Latent By works for every model"
            )
