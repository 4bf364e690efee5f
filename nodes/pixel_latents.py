"""Nodes that change latents in pixels count 8 a cell for every model. Only the graph shows it, not the latent."""

from __future__ import annotations

from collections.abc import Iterator

from comfy_execution.utils import get_executing_context

from .empty_latents import STOCK_RATIO
from .notices import tell

PIXEL_NODES = {
    "LatentUpscale": "Upscale Latent", "LatentCrop": "Crop Latent", "LatentComposite": "Latent Composite",
    "LatentCompositeMasked": "Latent Composite Masked",
}  # fmt: skip
MAKERS = {"model", "guider", "noise", "pixels", "vae"}  # inputs of nodes that make a latent of their own


def tell_pixel_nodes(ratio: int) -> None:
    """Tell which nodes in front of the running one count other pixels than the `ratio` of a cell of its model."""
    running = get_executing_context()
    if running is None or ratio == STOCK_RATIO:
        return
    from server import PromptServer  # a server runs wherever a node does

    queue = PromptServer.instance.prompt_queue.get_current_queue_volatile()[0]
    graph = next((item[2] for item in queue if item[1] == running.prompt_id), {})
    for node in latent_nodes(graph, running.node_id):
        if node["class_type"] in PIXEL_NODES:
            width, height = node["inputs"].get("width"), node["inputs"].get("height")
            times = ratio / STOCK_RATIO
            known = isinstance(width, int) and isinstance(height, int)
            size = f", {width}x{height} as {width * times:g}x{height * times:g}" if known else ""
            tell(
                f"{PIXEL_NODES[node['class_type']]} counts 8 pixels a cell, this model's cells have {ratio}: what it "
                f"is set to comes out {times:g} times as large{size}; Upscale Latent By works for every model"
            )


def latent_nodes(graph: dict[str, dict], start: str) -> Iterator[dict]:
    """The nodes that a node's latents have come through since they were made, in API format."""
    waiting, seen = [start], {start}
    while waiting:
        name = waiting.pop()
        inputs = graph.get(name, {}).get("inputs", {})
        if name != start:
            if name not in graph or MAKERS & set(inputs):
                continue
            yield graph[name]
        links = [value for key, value in inputs.items() if "latent" in key or "samples" in key or key == "destination"]
        sources = [link[0] for link in links if isinstance(link, list)]
        waiting += [source for source in sources if source not in seen]
        seen.update(sources)
