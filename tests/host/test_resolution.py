"""TiM Native Resolution: the sizes of `tim_model.sizes`, from presets, free ratios and pictures, and what it tells."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from devtools.browser import find_browser, open_page, press_run
from devtools.client import PromptFailed
from devtools.random_stack import MODEL_FILE
from devtools.server import Host
from tests.host.graphs import Graph, class_model, loader, node, run_latent
from tim_model.sampling.sizes import ASPECTS, choose_size, describe_size
from training.evaluation.bundled import BUNDLED

pytestmark = pytest.mark.usefixtures("stack")
UNIT = 32


def graph(model: str = MODEL_FILE, **changes: Any) -> Graph:
    """ "size", and "shown" with its text."""
    settings = {"aspect": "1:1", "custom_aspect": "16:9", "megapixels": 1.0, "batch_size": 1}
    size = node("TiMNativeResolution", model=["model", 0], **{**settings, **changes})
    return {"model": loader(model), "size": size, "shown": node("PreviewAny", source=["size", 3])}


def picture(host: Host, width: int, height: int) -> Graph:
    host.upload_image(Image.new("RGB", (width, height)), "sized.png")
    return {"picture": node("LoadImage", image="sized.png")}


def run_size(host: Host, graph: Graph) -> tuple[int, int]:
    """(width, height) from the outputs of the node, of which an empty image is made."""
    sides = {"width": ["size", 0], "height": ["size", 1], "batch_size": 1, "color": 0}
    empty = {"empty": node("EmptyImage", **sides)}
    empty["saved"] = node("SaveImage", images=["empty", 0], filename_prefix="size")
    (image,) = host.images(host.run({**graph, **empty}))
    return image.size


@pytest.mark.parametrize("aspect", ASPECTS)
def test_presets(host, aspect):
    """Latent and texts agree."""
    size = choose_size(ASPECTS[aspect], 0.5, UNIT)
    made = graph(aspect=aspect, megapixels=0.5, batch_size=2)
    outputs = host.run(made)  # first, for history has no texts of cached nodes
    assert outputs["size"]["text"] == outputs["shown"]["text"] == [describe_size(*size, UNIT)]
    latent = run_latent(host, made, "size", 2)
    assert latent.shape == (2, 32, size[1] // UNIT, size[0] // UNIT)
    assert latent.count_nonzero() == 0


def test_size_of_a_free_ratio(host):
    assert run_size(host, graph(aspect="custom", custom_aspect="2.39", megapixels=2.0)) == choose_size(2.39, 2.0, UNIT)


def test_sizes_of_a_picture(host):
    """Its aspect at the megapixels told, or its own size in whole cells."""
    made = {**graph(aspect="image", megapixels=0.25, image=["picture", 0]), **picture(host, 300, 200)}
    assert run_size(host, made) == choose_size(1.5, 0.25, UNIT)
    made = {**graph(aspect="image size", image=["picture", 0]), **picture(host, 300, 200)}
    assert run_size(host, made) == (288, 192)


def test_units_of_other_models(host):
    """Pixels of a patch of the class model, and sizes below the megapixels of the widget."""
    class_graph = {**graph(class_model()["model"]["inputs"]["model_name"], aspect="image size", image=["picture", 0])}
    assert run_size(host, {**class_graph, **picture(host, 30, 41)}) == (32, 40)


def test_sizes_far_beyond_training_are_told(host, demo_pipeline):
    """By the demo, whose file says what it was trained on."""
    native, _ = demo_pipeline.default_size
    for side in (native, native * 4 // 3):
        made = {**graph(BUNDLED["model"].name, aspect="image size", image=["picture", 0]), **picture(host, side, side)}
        (text,) = host.run(made)["size"]["text"]
        line = f"\n{side}x{side} pixels are far beyond this model's {native}x{native}, 1.78 times the area"
        assert (line in text) == (side > native)


def test_published_range_is_told(host):
    for aspect, warned in (("2:1", False), ("4:1", True)):
        (text,) = host.run(graph(aspect="custom", custom_aspect=aspect))["size"]["text"]
        assert text.startswith(describe_size(*choose_size({"2:1": 2.0, "4:1": 4.0}[aspect], 1.0, UNIT), UNIT))
        assert ("beyond the published sizes" in text) == warned


REFUSALS = {
    "no image": ({"aspect": "image"}, ['aspect "image"', "connect one"]),
    "no image size": ({"aspect": "image size"}, ['aspect "image size"', "connect one"]),
    "no ratio": ({"aspect": "custom", "custom_aspect": "wide"}, ["'wide'", "16:9"]),
    "too long": ({"aspect": "custom", "custom_aspect": "9:1", "megapixels": 16.0}, ["12288", "8192"]),
}


@pytest.mark.parametrize("changes,words", REFUSALS.values(), ids=REFUSALS)
def test_impossible_sizes(host, changes, words):
    with pytest.raises(PromptFailed) as caught:
        host.run(graph(**changes))
    assert caught.value.node_type == "TiMNativeResolution"
    message = caught.value.exception_message
    assert "\n" not in message and [word for word in words if word not in message] == []


GRAPH = """(name) => {
    app.graph.clear();
    const [model, size] = ["TiMModelLoader", "TiMNativeResolution"].map((type, i) => {
        const node = LiteGraph.createNode(type);
        node.pos = [300 + 400 * i, 200];
        app.graph.add(node);
        return node;
    });
    model.connect(0, size, 0);
    const values = { model_name: name, aspect: "5:2", megapixels: 2.5 };
    for (const widget of [...model.widgets, ...size.widgets]) widget.value = values[widget.name] ?? widget.value;
}"""
RENDERINGS = {"classic": False, "Nodes 2.0": True}
WIDGET = "app.graph.findNodesByType('TiMNativeResolution')[0].widgets.find((widget) => widget.name === 'chosen')"
# what a user reads: the only text area, wherever the rendering has put it
SHOWN = "(text) => [...document.querySelectorAll('textarea')].some((area) => area.value === text && area.offsetParent)"
SET = "(value) => { app.graph.findNodesByType('TiMNativeResolution')[0].widgets[2].value = value }"


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("nodes_2", RENDERINGS.values(), ids=RENDERINGS)
def test_browser_shows_the_choice_on_the_node(host, nodes_2):
    """At every run, also from the host's cache; and neither saves nor queues what it shows."""
    texts = {area: describe_size(*choose_size(2.5, area, UNIT), UNIT) for area in (2.5, 0.5)}
    with open_page(host, nodes_2=nodes_2) as page:
        page.evaluate(GRAPH, MODEL_FILE)
        before = page.evaluate("() => app.graphToPrompt()")
        for area in (2.5, 0.5, 2.5):
            page.evaluate(SET, area)
            press_run(page)
            page.wait_for_function(SHOWN, arg=texts[area])
            assert page.evaluate(f"() => {WIDGET}.value") == texts[area]
        assert page.evaluate("() => app.graphToPrompt()")["output"]["2"] == before["output"]["2"]
        (node,) = page.evaluate("() => app.graph.findNodesByType('TiMNativeResolution').map((n) => n.serialize())")
        assert node["widgets_values"] == ["5:2", "16:9", 2.5, 1]
    with open_page(host, nodes_2=nodes_2) as page:  # nothing is left to compute
        page.evaluate(GRAPH, MODEL_FILE)
        press_run(page)
        page.wait_for_function(SHOWN, arg=texts[2.5])
