"""The bundled workflows: offered by the host, in step with the nodes, and each runs to a picture."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

WORKFLOWS = sorted((Path(__file__).resolve().parents[2] / "workflows").glob("*.json"))
NOTES = {"Note", "MarkdownNote"}

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=[path.stem for path in WORKFLOWS])


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def api_file(path: Path) -> Path:
    return path.parent / "api" / path.name


def without_titles(prompt: dict[str, Any]) -> dict[str, Any]:
    """Titles are the host's, and change with it."""
    return {key: {"class_type": node["class_type"], "inputs": node["inputs"]} for key, node in prompt.items()}


def test_templates_are_listed(host):
    listed = host.get("/workflow_templates")["ComfyUI-TiM"]
    assert sorted(listed) == [path.stem for path in WORKFLOWS]
    assert "class_conditional" in listed


@each_workflow
def test_template_and_thumbnail_are_served(host, path):
    folder = "/api/workflow_templates/ComfyUI-TiM"
    assert host.get(f"{folder}/{path.name}") == read(path)
    thumbnail = host.request("GET", f"{folder}/{path.stem}.jpg")
    assert thumbnail.status_code == 200
    assert len(thumbnail.content) < 60_000
    assert min(Image.open(io.BytesIO(thumbnail.content)).size) >= 200


@each_workflow
def test_api_form_is_the_same_graph(to_api, path):
    assert without_titles(to_api(read(path))) == without_titles(read(api_file(path)))


def test_api_forms_have_their_workflows():
    assert sorted(WORKFLOWS[0].parent.glob("api/*")) == [api_file(path) for path in WORKFLOWS]


def quarter_size(prompt: dict[str, Any]) -> dict[str, Any]:
    """The same with 256 pixels for 1024, which is enough for weights that know nothing."""
    for inputs in (node["inputs"] for node in prompt.values()):
        sides = {side: inputs.get(side) for side in ("width", "height")}  # numbers, or links
        inputs.update({side: value // 4 for side, value in sides.items() if isinstance(value, int) and value >= 512})
        areas = ("megapixels", "base_megapixels")
        inputs.update({area: inputs[area] / 16 for area in areas if inputs.get(area, 0) >= 1})
    return prompt


@each_workflow
def test_workflow_runs_to_a_picture(host, stack, to_api, path):
    """With the bundled models, and with small random ones in place of those to download."""
    host.upload_image(Image.radial_gradient("L").convert("RGB"), "example.png")
    images = host.images(host.run(quarter_size(to_api(read(path)))))
    assert images
    assert all(low < high for image in images for low, high in image.convert("RGB").getextrema())


def widget_count(info: dict[str, Any]) -> int:
    """Values that the browser stores for a node: one for each widget, one more for some."""
    specs = [spec for section in ("required", "optional") for spec in info["input"].get(section, {}).values()]
    options = [spec[1] if len(spec) > 1 else {} for spec in specs if is_widget(spec[0])]
    with_button = [entry for entry in options if entry.get("control_after_generate") or entry.get("image_upload")]
    return len(options) + len(with_button)


def is_widget(kind: str | list) -> bool:
    return isinstance(kind, list) or kind in {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


@each_workflow
def test_widgets_are_complete(host, path):
    """A value too few or too many would shift all that follow."""
    info = host.object_info()
    nodes = [node for node in read(path)["nodes"] if node["type"] not in NOTES]
    counts = {node["type"]: len(node["widgets_values"]) for node in nodes}
    assert counts == {name: widget_count(info[name]) for name in counts}


@each_workflow
def test_links_join_what_the_nodes_have(host, path):
    workflow, info = read(path), host.object_info()
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for link, origin, output, target, slot, kind in workflow["links"]:
        assert link in nodes[origin]["outputs"][output]["links"]
        assert info[nodes[origin]["type"]]["output"][output] == kind
        assert nodes[target]["inputs"][slot]["link"] == link
        sections = info[nodes[target]["type"]]["input"]
        inputs = {**sections.get("required", {}), **sections.get("optional", {})}
        assert inputs[nodes[target]["inputs"][slot]["name"]][0] == kind
    assert max(link[0] for link in workflow["links"]) == workflow["last_link_id"]
    assert max(nodes) == workflow["last_node_id"]


@each_workflow
def test_nodes_do_not_overlap(path):
    boxes = [(*node["pos"], *node["size"]) for node in read(path)["nodes"]]
    title = 30  # pixels above a node's position
    for i, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[:i]:
            apart = x >= other_x + other_width or other_x >= x + width
            apart |= y - title >= other_y + other_height or other_y - title >= y + height
            assert apart, f"boxes at {x},{y} and {other_x},{other_y}"
