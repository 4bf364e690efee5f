"""Pictures of the text workflows as a browser shows them: thumbnails of the templates, and one for the README.

The weights are small random ones, so what the workflow in the README draws is noise.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from devtools.browser import find_browser, open_page, open_template, press_run, wait_for_images
from devtools.random_stack import write_stack
from devtools.server import ROOT, Host, prepare_base, stop_on_terminate

WORKFLOWS = ["text_to_image", "text_to_image_many_steps", "image_to_image", "inpainting"]
README = ROOT / "docs" / "text_to_image.png"
THUMBNAIL = (900, 600)  # pixels at most
MARGIN = 20  # pixels around the graph
# The rectangle that the nodes take up on the page: left, top, right, bottom.
EXTENT = """() => {
    const {scale, offset} = app.canvas.ds, canvas = app.canvas.canvas.getBoundingClientRect();
    const boxes = app.graph._nodes.map(node => [
        node.pos[0], node.pos[1] - 30, node.pos[0] + node.size[0], node.pos[1] + node.size[1]]);
    return [0, 1, 2, 3].map(i => {
        const edge = Math[i < 2 ? 'min' : 'max'](...boxes.map(box => box[i]));
        return (edge + offset[i % 2]) * scale + (i % 2 ? canvas.top : canvas.left);
    });
}"""


def show_all(page: Page) -> None:
    page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.wait_for_timeout(3000)  # the view glides there, and notices fade


def thumbnail(page: Page, name: str) -> Image.Image:
    """The graph of a workflow alone, reduced."""
    open_template(page, name)
    show_all(page)
    left, top, right, bottom = page.evaluate(EXTENT)
    clip = {"x": left - MARGIN, "y": top - MARGIN}
    clip |= {"width": right - left + 2 * MARGIN, "height": bottom - top + 2 * MARGIN}
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    picture.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    return picture


def result(page: Page, name: str) -> Image.Image:
    """The whole page after a workflow has run, in 256 colors."""
    open_template(page, name)
    press_run(page)
    wait_for_images(page)
    show_all(page)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return picture.quantize(256, dither=Image.Dither.NONE)


def take(host: Host) -> None:
    with open_page(host, width=2400, height=1500) as page:
        for name in WORKFLOWS:
            thumbnail(page, name).save(ROOT / "workflows" / f"{name}.jpg", quality=80, optimize=True)
    README.parent.mkdir(exist_ok=True)
    with open_page(host, width=1600, height=900) as page:
        result(page, "text_to_image").save(README, optimize=True)


def main() -> int:
    stop_on_terminate()
    if "TIM_HOST_DIR" not in os.environ or find_browser() is None:
        print("needs a ComfyUI in TIM_HOST_DIR and Chromium or Chrome in the PATH", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        base = prepare_base(Path(folder))
        write_stack(base / "models")
        Image.radial_gradient("L").resize((1024, 1024)).convert("RGB").save(base / "input" / "example.png")
        with Host(Path(os.environ["TIM_HOST_DIR"]), base) as host:
            take(host)
    return 0


if __name__ == "__main__":
    sys.exit(main())
