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
def open_page(host: Client, width: int = 1600, height: int = 900) -> Iterator[Page]:
    """The host's page in a new browser, ready to be used."""
    host.request("POST", "/settings", json=SETTINGS).raise_for_status()

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
        page.goto(host.url)
        templates_button(page).wait_for()
        yield page
        browser.close()


def templates_button(page: Page):
    return page.get_by_role("button", name="Templates", exact=True).first


def open_template(page: Page, name: str) -> None:
    """Open one of this pack's workflows from the template browser."""
    templates_button(page).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(PACK, exact=True).first.click()
    dialog.get_by_test_id(f"template-workflow-{name}").click()
    dialog.wait_for(state="detached")
    page.wait_for_function("window.app.graph._nodes.some(node => node.type.startsWith('TiM'))")


def press_run(page: Page) -> None:
    page.get_by_role("button", name="Run", exact=True).first.click()


def wait_for_images(page: Page) -> list[dict[str, Any]]:
    """Wait until every Save Image node shows its image; their addresses and sizes as the page has them."""
    nodes = "app.graph._nodes.filter(node => node.type === 'SaveImage')"
    page.wait_for_function(f"{nodes}.every(node => node.imgs?.length && node.imgs[0].complete)")
    described = "({src, naturalWidth, naturalHeight}) => ({src, size: [naturalWidth, naturalHeight]})"
    return page.evaluate(f"{nodes}.map(node => node.imgs[0]).map({described})")
