"""The image in the README: the text-to-image template in a browser after it has run, on the bundled models.

TIM_HOST_DIR=/path/to/ComfyUI python -m devtools.screenshot
"""

from __future__ import annotations

import io
import sys

from PIL import Image
from playwright.sync_api import Page

from devtools.browser import find_browser, open_page, open_template, press_run, wait_for_images
from devtools.server import ROOT, Host, temporary_host
from devtools.templates.names import TEXT_TO_IMAGE

README = ROOT / "docs" / "text_to_image.png"


def result(page: Page, name: str) -> Image.Image:
    """The whole page after a workflow has run, in 256 colors."""
    open_template(page, name)
    press_run(page)
    wait_for_images(page)
    page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.wait_for_timeout(3000)  # the view glides there, and notices fade
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return picture.quantize(256, dither=Image.Dither.NONE)


def take(host: Host) -> None:
    README.parent.mkdir(exist_ok=True)
    with open_page(host, width=1600, height=900) as page:
        result(page, TEXT_TO_IMAGE).save(README, optimize=True)


def main() -> None:
    if find_browser() is None:
        sys.exit("needs Chromium or Chrome: python -m playwright install chromium")
    with temporary_host() as host:
        take(host)


if __name__ == "__main__":
    main()
