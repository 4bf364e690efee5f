"""Drives the host's page in a headless Chromium, as a user would, and without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Route, sync_playwright

from devtools.client import Client
from devtools.server import PACK

BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
# A new user is shown a tour first; the rest only lies over the graph.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Queue.MaxHistoryItems": 1,
}
TIMEOUT = 60_000  # ms


def find_browser() -> str | None:
    """The path of an installed Chromium or Chrome, or of the one that Playwright has downloaded."""
    if installed := next(filter(None, map(shutil.which, BROWSERS)), None):
        return installed
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).is_file() else None


@contextmanager
def open_page(
    host: Client, address: str = "", width: int = 1600, height: int = 900, nodes_2: bool = False
) -> Iterator[Page]:
    """The host's page in a new browser, ready to be used; nodes in the rendering Nodes 2.0 or in the classic one."""
    settings = SETTINGS | {"Comfy.VueNodes.Enabled": nodes_2}
    host.request("POST", "/settings", json=settings).raise_for_status()

    def only_host(route: Route) -> None:
        if route.request.url.startswith(host.url + "/"):
            route.continue_()
        else:
            route.abort()

    path = find_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(TIMEOUT)
        page.route("**/*", only_host)
        page.add_init_script("localStorage.vueNodesBannerDismissed = true")  # lies over the graph
        page.goto(host.url + address)
        templates_button(page).wait_for()
        yield page
        browser.close()


def templates_button(page: Page):
    return page.get_by_role("button", name="Templates", exact=True).first


def open_template(page: Page, name: str) -> None:
    """Open one of this pack's workflows from the template browser, and close what it says about missing models."""
    templates_button(page).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(PACK, exact=True).first.click()
    dialog.get_by_test_id(f"template-workflow-{name}").click()
    page.wait_for_function("name => app.extensionManager.workflow.activeWorkflow.filename === name", arg=name)
    page.wait_for_function("window.app.graph._nodes.some(node => node.type.startsWith('TiM'))")


def press_run(page: Page) -> None:
    page.get_by_role("button", name="Run", exact=True).first.click()


IMAGE_NODES = "app.graph._nodes.filter(node => ['SaveImage', 'PreviewImage'].includes(node.type))"
# The classic rendering keeps a node's images in the node, Nodes 2.0 shows them as elements of the page.
IMAGE_OF = """node => node.imgs?.[0] ?? document.querySelector(`[data-node-id="${node.id}"] img[src*="filename="]`)"""
BOX_OF = """node => {
    const {canvas, ds} = app.canvas
    const page = canvas.getBoundingClientRect()
    const element = document.querySelector(`[data-node-id="${node.id}"]`)
    if (!element) return Array.from(node.boundingRect)
    const {left, top, width, height} = element.getBoundingClientRect()
    const place = [(left - page.left) / ds.scale - ds.offset[0], (top - page.top) / ds.scale - ds.offset[1]]
    return [...place, width / ds.scale, height / ds.scale]
}"""


def wait_for_images(page: Page) -> list[dict[str, Any]]:
    """Wait until every Save Image and Preview Image shows its image; addresses and sizes as the page has them."""
    page.wait_for_function(f"{IMAGE_NODES}.map({IMAGE_OF}).every(image => image?.complete && image.naturalWidth)")
    described = "({src, naturalWidth, naturalHeight}) => ({src, size: [naturalWidth, naturalHeight]})"
    return page.evaluate(f"{IMAGE_NODES}.map({IMAGE_OF}).map({described})")


def fit_view(page: Page) -> float:
    """Fit the graph into the page; pixels of a unit then."""
    page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.wait_for_timeout(1500)  # the view glides there
    return page.evaluate("app.canvas.ds.scale")


def node_boxes(page: Page) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, width and height of each node with its title, as the page shows it, in units of the graph."""
    boxes = page.evaluate(f"app.graph._nodes.map(node => [`${{node.id}} ${{node.type}}`, ({BOX_OF})(node)])")
    return {name: tuple(box) for name, box in boxes}
