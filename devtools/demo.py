"""The demo: ten classes at 1, 2, 4 and 16 steps through a headless ComfyUI, and a contact sheet of them."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from devtools.client import PromptFailed, PromptRejected
from devtools.server import ROOT, Host, HostFailed, development_host, stop_on_terminate
from tim_model.checkpoint import read_checkpoint

WORKFLOW = ROOT / "workflows" / "api" / "class_conditional.json"
MODEL = ROOT / "models" / "diffusion_models" / "tim-fashion-mnist-c2i.safetensors"
OUTPUT = ROOT / "demo_output"
STEPS = [1, 2, 4, 16]
CELL = 96  # pixels of one picture in the sheet, three times its own
GAP = 8  # pixels between the images of the sheet
MARGIN = 80  # pixels for the labels

Images = dict[tuple[str, int], Image.Image]  # (class, steps) -> image


def variant(workflow: dict[str, Any], label: str, steps: int) -> dict[str, Any]:
    """A copy of an API-format workflow for one class and number of steps."""
    prompt = copy.deepcopy(workflow)
    for node in prompt.values():
        if node["class_type"] == "TiMClassConditioning":
            node["inputs"]["label"] = label
        if node["class_type"] == "TiMSampler":
            node["inputs"]["steps"] = steps
        if node["class_type"] == "TiMEmptyLatent":
            node["inputs"]["batch_size"] = 1
    return prompt


def generate(host: Host, workflow: dict[str, Any]) -> Images:
    """Queue every variant, then collect the images as they get ready."""
    variants = [(label, steps) for label in read_checkpoint(MODEL).class_names for steps in STEPS]
    queued = {key: host.queue(variant(workflow, *key)) for key in variants}
    progress = tqdm(queued.items(), desc="sampling", unit="image", file=sys.stdout)
    return {key: host.images(host.outputs(prompt_id))[0].convert("RGB") for key, prompt_id in progress}


def contact_sheet(images: Images) -> Image.Image:
    """One row per number of steps, one column per class, with labels."""
    columns, rows = (list(dict.fromkeys(keys)) for keys in zip(*images))
    cell_x = [MARGIN + i * (CELL + GAP) for i in range(len(columns) + 1)]
    cell_y = [MARGIN // 2 + i * (CELL + GAP) for i in range(len(rows) + 1)]
    sheet = Image.new("RGB", (cell_x[-1], cell_y[-1]), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for x, label in zip(cell_x, columns):
        draw.text((x + CELL / 2, MARGIN / 4), label, "black", font, anchor="mm")
    for y, steps in zip(cell_y, rows):
        draw.text((MARGIN - GAP, y + CELL / 2), f"{steps} step{'s' * (steps > 1)}", "black", font, anchor="rm")
        for x, label in zip(cell_x, columns):
            sheet.paste(images[label, steps].resize((CELL, CELL), Image.Resampling.NEAREST), (x, y))
    return sheet


def save(images: Images, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for (label, steps), image in images.items():
        image.save(folder / f"{label.replace(' ', '-')}-{steps:02d}-steps.png")
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
