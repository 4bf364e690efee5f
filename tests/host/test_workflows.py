"""The bundled workflows: offered by the host, in step with the nodes, and each runs to a picture."""

from __future__ import annotations

import io
import re
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image

from devtools.random_stack import write_class_models
from devtools.templates.catalog import GRAPHS
from devtools.templates.formats import to_prompt, to_workflow
from devtools.templates.graph import NOTE
from devtools.templates.names import (
    DEMOS,
    FOLDER,
    WITH_DOWNLOADS,
    prompt_file,
    read_prompt,
    read_workflow,
    thumbnail_file,
    workflow_file,
)
from devtools.templates.thumbnails import SIDE
from tests.host.flow_graphs import with_small_peers, write_small_sd3

each_workflow = pytest.mark.parametrize("name", GRAPHS)


@pytest.fixture(scope="module")
def class_models(stack) -> None:
    """Small random class models and a random SD-VAE, under the names of the published files, in the host's folder."""
    write_class_models(stack)


@pytest.fixture(scope="module")
def small_peers(host) -> None:
    write_small_sd3(host)


def without_titles(prompt: dict[str, Any]) -> dict[str, Any]:
    """Titles are the host's, and change with it."""
    return {key: {"class_type": node["class_type"], "inputs": node["inputs"]} for key, node in prompt.items()}


def test_names_are_in_reading_order_and_name_downloads():
    numbers = [int(number[1]) for name in GRAPHS if (number := re.match(r"TiM (\d) [A-Z]", name))]
    assert numbers == [i + 1 for i in range(len(GRAPHS) - 2)]
    assert sorted(GRAPHS)[-2:] == sorted(name for name in GRAPHS if name.startswith("TiM beside "))
    assert "start here" in next(iter(GRAPHS))
    assert [name for name in GRAPHS if "needs downloads" in name] == WITH_DOWNLOADS
    assert [*DEMOS, *WITH_DOWNLOADS] == list(GRAPHS)


def test_templates_are_listed(host):
    assert sorted(host.get("/workflow_templates")["ComfyUI-TiM"]) == sorted(GRAPHS)


def test_there_are_no_other_files():
    files = [(workflow_file(name), prompt_file(name), thumbnail_file(name)) for name in GRAPHS]
    assert set(FOLDER.rglob("*.*")) == {path for paths in files for path in paths}


@each_workflow
def test_template_and_thumbnail_are_served(host, name):
    folder = "/api/workflow_templates/ComfyUI-TiM"
    assert host.get(f"{folder}/{quote(name)}.json") == read_workflow(name)
    thumbnail = host.request("GET", f"{folder}/{quote(name)}.jpg")
    assert thumbnail.status_code == 200
    assert len(thumbnail.content) < 60_000
    assert Image.open(io.BytesIO(thumbnail.content)).size == (SIDE, SIDE)


@each_workflow
def test_files_are_what_the_command_writes(host, name):
    """After a change of a node or of the demo's models: python -m devtools.templates."""
    info, graph = host.object_info(), GRAPHS[name]()
    assert read_workflow(name) == to_workflow(info, graph)
    assert without_titles(read_prompt(name)) == without_titles(to_prompt(info, graph))


@each_workflow
def test_api_form_is_the_same_graph(to_api, name):
    assert without_titles(to_api(read_workflow(name))) == without_titles(read_prompt(name))


@each_workflow
def test_note_is_short(name):
    """Inline code in a colored note cannot be read in Nodes 2.0."""
    (note,) = (node["widgets_values"][0] for node in read_workflow(name)["nodes"] if node["type"] == NOTE)
    assert len(note.split("\n\n")) <= 3 and "](https://" in note
    assert not re.search(r"`|^#", note, re.MULTILINE)


def quarter_size(prompt: dict[str, Any]) -> dict[str, Any]:
    """The same with 256 pixels for 1024, which is enough for weights that know nothing."""
    for inputs in (node["inputs"] for node in prompt.values()):
        sides = {side: inputs.get(side) for side in ("width", "height")}  # numbers, or links
        inputs.update({side: value // 4 for side, value in sides.items() if isinstance(value, int) and value >= 512})
        areas = ("megapixels", "base_megapixels")
        inputs.update({area: inputs[area] / 16 for area in areas if inputs.get(area, 0) >= 1})
    return prompt


@each_workflow
def test_workflow_runs_to_a_picture(host, stack, class_models, small_peers, to_api, name):
    """With the bundled models, and with small random ones in place of those to download; without a file of input."""
    images = host.images(host.run(quarter_size(with_small_peers(to_api(read_workflow(name))))))
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
def test_widgets_are_complete(host, name):
    """A value too few or too many would shift all that follow."""
    info = host.object_info()
    nodes = [node for node in read_workflow(name)["nodes"] if node["type"] != NOTE]
    counts = {node["type"]: len(node["widgets_values"]) for node in nodes}
    assert counts == {kind: widget_count(info[kind]) for kind in counts}


@each_workflow
def test_links_join_what_the_nodes_have(host, name):
    workflow, info = read_workflow(name), host.object_info()
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
