"""The demo: six prompts at 1 to 32 steps through a headless ComfyUI, a contact sheet and an animation of them."""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import sys
import textwrap
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from devtools.animation import Frame, save_animation
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
STEPS = [1, 2, 4, 8, 16, 32]
SHEET_STEPS = [1, 2, 4, 16]
SHEET, ANIMATION = "contact_sheet.png", "any_step.webp"  # both are in the README
CELL = 192  # pixels of one image in the sheet, three times its own
GAP = 8  # pixels between the images of the sheet
MARGIN = 80  # pixels for the numbers of steps
HEADER = 48  # pixels for the prompts
LINE = 24  # characters of a prompt in one line


class Drawn(NamedTuple):
    """An image, and the seconds from its prompt to its file."""

    image: Image.Image
    seconds: float


Images = dict[tuple[str, int], Drawn]  # by prompt and steps


def sampler_of(workflow: dict[str, Any]) -> dict[str, Any]:
    """The inputs of the workflow's TiM Sampler."""
    (sampler,) = (node["inputs"] for node in workflow.values() if node["class_type"] == "TiMSampler")
    return sampler


def network_calls(workflow: dict[str, Any], steps: int) -> int:
    """Network calls an image: two a step with guidance, which leaves out the first."""
    return steps if sampler_of(workflow)["cfg"] == 1 else 2 * steps - 1


def variant(workflow: dict[str, Any], text: str, steps: int) -> dict[str, Any]:
    """A copy of the API-format workflow for one prompt and number of steps."""
    prompt = copy.deepcopy(workflow)
    sampler = sampler_of(prompt)
    positive, _ = sampler["positive"]
    prompt[positive]["inputs"]["text"] = text
    sampler["steps"] = steps
    return prompt


def generate(host: Host, workflow: dict[str, Any]) -> Images:
    """Queue every variant, then collect the images as they get ready.

    A prompt follows another, so that each image's time includes the encoding of its text.
    """
    queued = {(text, steps): host.queue(variant(workflow, text, steps)) for steps, text in product(STEPS, PROMPTS)}
    progress = tqdm(queued.items(), desc="sampling", unit="image", file=sys.stdout)
    return {key: collect(host, prompt_id) for key, prompt_id in progress}


def collect(host: Host, prompt_id: str) -> Drawn:
    """Wait for an image. Raises PromptFailed."""
    image = host.images(host.outputs(prompt_id))[0].convert("RGB")
    times = {event: data["timestamp"] / 1000 for event, data in host.wait(prompt_id)["status"]["messages"]}
    return Drawn(image, times["execution_success"] - times["execution_start"])


def frames(images: Images, workflow: dict[str, Any]) -> list[Frame]:
    """The animation's frames; the time of each is the median over its prompts, as the first loads the models."""
    made = []
    for steps in STEPS:
        drawn = {text: images[text, steps] for text in PROMPTS}
        seconds = median(one.seconds for one in drawn.values())
        pictures = {text: one.image for text, one in drawn.items()}
        made.append(Frame(steps, network_calls(workflow, steps), seconds, pictures))
    return made


def contact_sheet(images: dict[tuple[str, int], Image.Image]) -> Image.Image:
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


def save(images: Images, workflow: dict[str, Any], folder: Path) -> None:
    """Every image, the contact sheet and the animation, in place of those of before."""
    folder.mkdir(exist_ok=True)
    for earlier in [*folder.glob("*.png"), *folder.glob("*.webp")]:
        earlier.unlink()
    for (text, steps), drawn in images.items():
        drawn.image.save(folder / f"{text.replace(' ', '-')}-{steps:02d}-steps.png")
    sheet = {(text, steps): images[text, steps].image for text, steps in product(PROMPTS, SHEET_STEPS)}
    contact_sheet(sheet).save(folder / SHEET)
    save_animation(frames(images, workflow), folder / ANIMATION)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py run", description=__doc__)
    parser.add_argument("--docs", action="store_true", help="also replace the two images that the README shows")
    options = parser.parse_args()
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
    save(images, workflow, OUTPUT)
    if options.docs:
        for name in (SHEET, ANIMATION):
            shutil.copy(OUTPUT / name, ROOT / "docs" / name)
    print(f"{len(images)} images, {SHEET} and {ANIMATION} are in {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
