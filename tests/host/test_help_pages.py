"""Help pages as a user reads them: in the side bar of the browser, which is narrow."""

from __future__ import annotations

import pytest

from devtools.browser import find_browser, open_page

pytestmark = [
    pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome"),
    pytest.mark.timeout(300),
]

SELECT = """(type) => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    node.pos = [600, 300];
    app.graph.add(node);
    app.canvas.selectItems([node]);
}"""
# Elements of the open help that scroll sideways, or would be cut; inline ones have no width of their own.
WIDER = """() => [...document.querySelectorAll('.node-help-content, .node-help-content *')]
    .filter((e) => e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1)
    .map((e) => `${e.tagName} ${e.innerText.slice(0, 60)}`)"""


def test_no_help_page_scrolls_sideways(host, root):
    pages = {path.stem: path.read_text(encoding="utf-8").splitlines()[0] for path in (root / "web/docs").glob("*.md")}
    wider = {}
    with open_page(host, width=1600) as page:
        for name, heading in pages.items():
            page.evaluate(SELECT, name)
            page.get_by_test_id("info-button").click()
            page.locator(".node-help-content h1", has_text=heading.removeprefix("# ")).wait_for()
            wider[name] = page.evaluate(WIDER)
    assert len(pages) >= 19
    assert {name: found for name, found in wider.items() if found} == {}
