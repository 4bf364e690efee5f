"""Every template in a real browser, in both renderings: nothing overlaps, all can be read, and the demos draw."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest
from playwright.sync_api import Page

from devtools.browser import (
    find_browser,
    fit_view,
    node_boxes,
    open_page,
    open_template,
    press_run,
    templates_button,
    wait_for_images,
)
from devtools.templates.catalog import GRAPHS
from devtools.templates.names import DEMOS, WITH_DOWNLOADS, read_workflow

pytestmark = [
    pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome"),
    pytest.mark.timeout(300),
]
RENDERINGS = {"classic": False, "Nodes 2.0": True}
WIDEST, HIGHEST = 1800, 950  # units
STRETCH = 1.2  # of old browsers in Nodes 2.0, in both directions
READABLE = 8 / 14  # pixels of a unit below which Nodes 2.0 leaves texts out


@pytest.fixture(scope="module")
def nothing_downloaded(host) -> Iterator[None]:
    """Without the small files that other tests have under the names of official ones."""
    nodes = [node for name in WITH_DOWNLOADS for node in read_workflow(name)["nodes"]]
    models = [model for node in nodes for model in node["properties"].get("models", [])]
    files = {host.base / "models" / model["directory"] / model["name"] for model in models}
    renamed = {file: file.with_suffix(".away") for file in files if file.is_file()}
    for file, away in renamed.items():
        file.rename(away)
    yield
    for file, away in renamed.items():
        away.rename(file)


@pytest.fixture(scope="module", params=RENDERINGS.values(), ids=RENDERINGS)
def page(request, host, nothing_downloaded) -> Iterator[Page]:
    with open_page(host, nodes_2=request.param) as page:
        yield page


def assert_apart(page: Page) -> None:
    """No node covers another, to a unit."""
    for (name, (x, y, width, height)), (other, (left, top, wide, high)) in combinations(node_boxes(page).items(), 2):
        across = min(x + width, left + wide) - max(x, left)
        down = min(y + height, top + high) - max(y, top)
        assert min(across, down) < 1, f"{name} and {other} overlap"


def assert_laid_out(page: Page) -> None:
    """Apart, within the limits, and large enough to be read when the whole graph is in view."""
    assert_apart(page)
    assert fit_view(page) >= READABLE
    boxes = node_boxes(page)
    stretch = STRETCH if page.evaluate("app.graph.extra.workflowRendererVersion") == "Vue" else 1
    spans = [[box[axis] for box in boxes.values()] for axis in (0, 1)]
    ends = [[box[axis] + box[axis + 2] for box in boxes.values()] for axis in (0, 1)]
    width, height = (max(end) - min(start) for start, end in zip(spans, ends))
    assert width <= WIDEST * stretch and height <= HIGHEST * stretch


@pytest.mark.parametrize("name", DEMOS)
def test_demo_draws(page, name):
    open_template(page, name)
    assert page.get_by_role("dialog").count() == 0
    assert_laid_out(page)
    press_run(page)
    images = wait_for_images(page)
    assert images and all(min(image["size"]) >= 256 for image in images)
    assert_apart(page)


@pytest.mark.parametrize("name", WITH_DOWNLOADS)
def test_missing_models_are_listed(page, name):
    """In the host's dialog, newer ones have a list behind a button."""
    open_template(page, name)
    details = page.get_by_role("button", name="View details", exact=True)
    details.or_(page.get_by_role("dialog").get_by_text("Missing Models")).first.wait_for()
    if details.count():
        details.click()
    for node in read_workflow(name)["nodes"]:
        for model in node["properties"].get("models", []):
            page.get_by_text(model["name"].rpartition("/")[2]).first.wait_for()
    page.keyboard.press("Escape")
    assert_laid_out(page)


def test_search_finds_all(page):
    templates_button(page).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_placeholder("Search").first.fill("TiM")
    for name in GRAPHS:
        dialog.get_by_test_id(f"template-workflow-{name}").wait_for()
    page.keyboard.press("Escape")
