"""The graph that is running, as the host queued it: nodes in API format."""

from __future__ import annotations

from collections.abc import Iterator

from comfy_execution.utils import get_executing_context

MAKERS = {"model", "guider", "noise", "pixels", "vae"}  # inputs of nodes that make a latent of their own


def nodes_before() -> list[dict]:
    """The nodes that the latents of the running node have passed since they were made; none without a graph."""
    running = get_executing_context()
    if running is None:
        return []
    from server import PromptServer  # a server runs wherever a node does

    queue = PromptServer.instance.prompt_queue.get_current_queue_volatile()[0]
    graph = next((item[2] for item in queue if item[1] == running.prompt_id), {})
    return list(latent_nodes(graph, running.node_id))


def latent_nodes(graph: dict[str, dict], start: str) -> Iterator[dict]:
    """The nodes before `start` that its latents have passed, the nearest first."""
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
