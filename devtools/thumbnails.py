"""Draws the thumbnails of the text templates with these templates themselves, on the bundled models.

TIM_HOST_DIR=/path/to/ComfyUI python -m devtools.thumbnails
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from PIL import Image

from devtools.demo import variant
from devtools.server import ROOT, Host, temporary_host
from tim_model.images import grid

FOLDER = ROOT / "workflows"
FROM_TEXT = ["text_to_image", "text_to_image_many_steps", "step_sweep", "demo_twice_trained_size"]
EXAMPLE = "a trouser to the left of a coat", 8  # prompt and steps of the image that the others start from
MASKED = (0, 0, 0.5, 1)  # part of it that inpainting draws anew: left, top, right, bottom


def read(name: str) -> dict[str, Any]:
    """A workflow in API format."""
    return json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))


def draw(host: Host, workflow: dict[str, Any]) -> dict[str, Image.Image]:
    """The image that each Save Image node saves, by the title of the node."""
    outputs = host.run(workflow)
    saving = {key: node["_meta"]["title"] for key, node in workflow.items() if node["class_type"] == "SaveImage"}
    return {title: host.images({key: outputs[key]})[0].convert("RGB") for key, title in saving.items()}


def masked(picture: Image.Image) -> Image.Image:
    """The image with transparency where Load Image then has its mask."""
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, tuple(round(edge * side) for edge, side in zip(MASKED, picture.size * 2)))
    with_alpha = picture.copy()
    with_alpha.putalpha(alpha)
    return with_alpha


def on_gray(picture: Image.Image) -> Image.Image:
    gray = Image.new("RGBA", picture.size, "gray")
    return Image.alpha_composite(gray, picture.convert("RGBA")).convert("RGB")


def save(name: str, pictures: Mapping[str, Image.Image]) -> None:
    """One image as it is, several side by side under their labels."""
    columns = list(pictures) if len(pictures) > 1 else []
    grid([list(pictures.values())], columns=columns).save(FOLDER / f"{name}.jpg", quality=75, optimize=True)


def take(host: Host) -> None:
    for name in FROM_TEXT:
        save(name, draw(host, read(name)))
    (example,) = draw(host, variant(read("text_to_image"), *EXAMPLE)).values()
    for name, start in {"image_to_image": example, "inpainting": masked(example)}.items():
        host.upload_image(start, "example.png")
        (result,) = draw(host, read(name)).values()
        save(name, {"before": on_gray(start), "after": result})


if __name__ == "__main__":
    with temporary_host() as host:
        take(host)
