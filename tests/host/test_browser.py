"""A user's way to a first picture: template browser or address, first template, Run. Nothing else is installed."""

from __future__ import annotations

import pytest

from devtools.browser import find_browser, open_page, open_template, press_run, wait_for_images
from devtools.templates.names import TEXT_TO_IMAGE, read_workflow
from devtools.templates.start import ADDRESS

pytestmark = [
    pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome"),
    pytest.mark.timeout(120),
]


def test_text_to_image_template(host):
    earlier = host.get("/history")
    with open_page(host) as page:
        open_template(page, TEXT_TO_IMAGE)
        press_run(page)
        (shown,) = wait_for_images(page)
    assert shown["size"] == [512, 512]
    (run,) = (entry for prompt_id, entry in host.get("/history").items() if prompt_id not in earlier)
    assert run["status"]["status_str"] == "success"
    ((file, *others),) = (output["images"] for output in run["outputs"].values())
    assert file["filename"] in shown["src"] and not others
    (picture,) = host.images(run["outputs"])
    assert all(low < high for low, high in picture.convert("RGB").getextrema())


@pytest.mark.parametrize("nodes_2", [False, True], ids=["classic", "Nodes 2.0"])
def test_address_opens_the_first_template(host, nodes_2):
    """The one that dev.py comfy prints."""
    with open_page(host, ADDRESS, nodes_2=nodes_2) as page:
        page.wait_for_function("app.graph?._nodes.some(node => node.type.startsWith('TiM'))")
        kinds = page.evaluate("app.graph._nodes.map(node => node.type)")
    assert sorted(kinds) == sorted(node["type"] for node in read_workflow(TEXT_TO_IMAGE)["nodes"])
