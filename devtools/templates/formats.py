"""Writes a graph in the two formats of the host: as the browser saves it, and as the API takes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from devtools.templates.graph import NOTE, Graph, Node, Output

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
SHOWS_IMAGES = {"SaveImage", "PreviewImage"}  # newer hosts give these an output, too
VIEW = {"scale": 0.7, "offset": [120, 150]}  # all of 1,800×950 units; without one, old browsers move nodes in Nodes 2.0
NOTE_COLORS = {"color": "#432", "bgcolor": "#653"}

Info = dict[str, Any]  # the host's /object_info
Spec = list[Any]  # of an input: [type or choices, options]


def specs(info: Info, kind: str) -> dict[str, Spec]:
    """The inputs of a kind of node in their order."""
    sections = info[kind]["input"]
    return {**sections.get("required", {}), **sections.get("optional", {})}


def options_of(spec: Spec) -> dict[str, Any]:
    return spec[1] if len(spec) > 1 else {}


def widgets(info: Info, kind: str) -> dict[str, Spec]:
    """The inputs of a kind of node that have a field in it."""
    return {k: spec for k, spec in specs(info, kind).items() if isinstance(spec[0], list) or spec[0] in WIDGETS}


def default(spec: Spec) -> Any:
    """What a new node has: the default, else the first choice, else nothing."""
    choices = spec[0] if isinstance(spec[0], list) else options_of(spec).get("options", [None])
    return options_of(spec).get("default", choices[0])


def to_prompt(info: Info, graph: Graph) -> dict[str, Any]:
    """The graph in API format. ValueError for an input that the host's node does not have."""
    prompt = {}
    for node in (node for node in graph.nodes if node.kind != NOTE):
        known = specs(info, node.kind)
        if unknown := node.inputs.keys() - known.keys():
            raise ValueError(f"{node.kind} has no {', '.join(sorted(unknown))}: expected of {', '.join(known)}")
        values = {name: default(spec) for name, spec in widgets(info, node.kind).items()} | node.inputs
        inputs = {k: [str(v.node), v.slot] if isinstance(v, Output) else v for k, v in values.items()}
        title = node.title or info[node.kind]["display_name"]
        prompt[str(node.id)] = {"inputs": inputs, "class_type": node.kind, "_meta": {"title": title}}
    return prompt


@dataclass(frozen=True)
class Link:
    """A link in the browser's format; `index` counts the linked inputs of its target."""

    id: int
    origin: Output
    target: int
    index: int
    name: str
    kind: str


def links_of(info: Info, graph: Graph) -> list[Link]:
    kinds = {node.id: node.kind for node in graph.nodes}
    found: list[Link] = []
    for node in graph.nodes:
        linked = {name: output for name, output in node.inputs.items() if isinstance(output, Output)}
        for index, name in enumerate(name for name in specs(info, node.kind) if name in linked) if linked else ():
            origin = linked[name]
            kind = info[kinds[origin.node]]["output"][origin.slot]
            found.append(Link(len(found) + 1, origin, node.id, index, name, kind))
    return found


def to_workflow(info: Info, graph: Graph) -> dict[str, Any]:
    """The graph as the browser saves it; in a view that shows all of it."""
    links = links_of(info, graph)
    return {
        "last_node_id": len(graph.nodes),
        "last_link_id": len(links),
        "nodes": [browser_node(info, node, links) for node in graph.nodes],
        "links": [[link.id, link.origin.node, link.origin.slot, link.target, link.index, link.kind] for link in links],
        "groups": [],
        "config": {},
        "extra": {"ds": VIEW},
        "version": 0.4,
    }


def browser_node(info: Info, node: Node, links: list[Link]) -> dict[str, Any]:
    entry = {
        "id": node.id, "type": node.kind, "pos": list(node.position), "size": list(node.size), "flags": {},
        "order": node.id - 1, "mode": 0,
    }  # fmt: skip
    if node.kind == NOTE:
        own = {"inputs": [], "outputs": [], "properties": {}, "widgets_values": [node.inputs["text"]], **NOTE_COLORS}
    else:
        own = {
            "inputs": slots(info, node, links),
            "outputs": outputs(info, node, links),
            "properties": {"Node name for S&R": node.kind} | ({"models": list(node.models)} if node.models else {}),
            "widgets_values": widgets_values(info, node),
        }
    return entry | own | ({"title": node.title} if node.title else {})


def slots(info: Info, node: Node, links: list[Link]) -> list[dict[str, Any]]:
    fields = widgets(info, node.kind)
    return [
        {"name": link.name, "type": link.kind, "link": link.id}
        | ({"widget": {"name": link.name}} if link.name in fields else {})
        for link in links
        if link.target == node.id
    ]


def outputs(info: Info, node: Node, links: list[Link]) -> list[dict[str, Any]]:
    if node.kind in SHOWS_IMAGES:
        return []
    named = zip(info[node.kind]["output_name"], info[node.kind]["output"])
    leaving = [[link.id for link in links if link.origin == node[i]] for i in range(len(info[node.kind]["output"]))]
    return [{"name": name, "type": kind, "links": leaving[i], "slot_index": i} for i, (name, kind) in enumerate(named)]


def widgets_values(info: Info, node: Node) -> list[Any]:
    """A value for each widget, linked or not, and one more for what becomes of a seed after a run."""
    found: list[Any] = []
    for name, spec in widgets(info, node.kind).items():
        value = node.inputs.get(name, default(spec))
        found.append(default(spec) if isinstance(value, Output) else value)
        found += ["fixed"] if options_of(spec).get("control_after_generate") else []
    return found


def prompt_text(prompt: dict[str, Any]) -> str:
    return json.dumps(prompt, indent=2, ensure_ascii=False) + "\n"


def workflow_text(workflow: dict[str, Any]) -> str:
    """JSON with a line for each node and link."""
    parts = [f'  "{key}": {entry_text(value)}' for key, value in workflow.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def entry_text(value: Any) -> str:
    if isinstance(value, list) and value:
        return "[\n    " + ",\n    ".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n  ]"
    return json.dumps(value)
