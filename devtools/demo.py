"""The demo: six prompts at 1, 2, 4 and 16 steps through a headless ComfyUI, and a contact sheet of them."""

from __future__ import annotations

import copy
import json
import sys
import textwrap
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from devtools.client import PromptFailed, PromptRejected
from devtools.server import ROOT, Host, HostFailed, development_host, stop_on_terminate
from devtools.templates.names import TEXT_TO_IMAGE, prompt_file

WORKFLOW = prompt_file(TEXT_TO_IMAGE)
OUTPUT = ROOT / "demo_output"
PROMPTS = [
    "a red sneaker",
    "a green bag and a white dress",
    "a picture of three boots",
    "a trouser to the left of a coat",
    "a sandal above a t-shirt",
    "a blue dress and a yellow boot",
]
STEPS = [1, 2, 4, 16]
CELL = 192  # pixels of one image in the sheet, three times its own
GAP = 8  # pixels between the images of the sheet
MARGIN = 80  # pixels for the numbers of steps
HEADER = 48  # pixels for the prompts
LINE = 24  # characters of a prompt in one line

Images = dict[tuple[str, int], Image.Image]  # (prompt, steps) -> image


def variant(workflow: dict[str, Any], text: str, steps: int) -> dict[str, Any]:
    """A copy of the API-format workflow for one prompt and number of steps."""
    prompt = copy.deepcopy(workflow)
    (sampler,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "TiMSampler")
    positive, _ = sampler["positive"]
    prompt[positive]["inputs"]["text"] = text
    sampler["steps"] = steps
    return prompt


def generate(host: Host, workflow: dict[str, Any]) -> Images:
    """Queue every variant, then collect the images as they get ready."""
    queued = {key: host.queue(variant(workflow, *key)) for key in product(PROMPTS, STEPS)}
    progress = tqdm(queued.items(), desc="sampling", unit="image", file=sys.stdout)
    return {key: host.images(host.outputs(prompt_id))[0].convert("RGB") for key, prompt_id in progress}


def contact_sheet(images: Images) -> Image.Image:
    """One row per number of steps, one column per prompt, with labels."""
    columns, rows = (list(dict.fromkeys(keys)) for keys in zip(*images))
    cell_x = [MARGIN + i * (CELL + GAP) for i in range(len(columns) + 1)]
    cell_y = [HEADER + i * (CELL + GAP) for i in range(len(rows) + 1)]
    sheet = Image.new("RGB", (cell_x[-1], cell_y[-1]), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for x, text in zip(cell_x, columns):
        lines = textwrap.fill(text, LINE)
        draw.multiline_text((x + CELL / 2, HEADER / 2), lines, "black", font, anchor="mm", align="center")
    for y, steps in zip(cell_y, rows):
        draw.text((MARGIN - GAP, y + CELL / 2), f"{steps} step{'s' * (steps > 1)}", "black", font, anchor="rm")
        for x, text in zip(cell_x, columns):
            sheet.paste(images[text, steps].resize((CELL, CELL), Image.Resampling.NEAREST), (x, y))
    return sheet


def save(images: Images, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for earlier in folder.glob("*.png"):
        earlier.unlink()
    for (text, steps), image in images.items():
        image.save(folder / f"{text.replace(' ', '-')}-{steps:02d}-steps.png")
    contact_sheet(images).save(folder / "contact_sheet.png")


def main() -> int:
    stop_on_terminate()
    if not WORKFLOW.exists():
        print(f"no demo workflow at {WORKFLOW}", file=sys.stderr)
        return 1
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    print("starting ComfyUI ...", flush=True)
    try:
        with development_host() as host:
            images = generate(host, workflow)
    except (HostFailed, PromptRejected, PromptFailed, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    save(images, OUTPUT)
    print(f"{len(images)} images and contact_sheet.png are in {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
