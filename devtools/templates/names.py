"""The templates' names, which are those of their files and what the host's template browser shows and searches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from devtools.server import ROOT

FOLDER = ROOT / "workflows"
TEXT_TO_IMAGE = "TiM 1 Text to image, start here"
STEP_SWEEP = "TiM 2 Any number of steps, side by side"
DRAFTS = "TiM 3 Drafts and refine"
IMAGE_TO_IMAGE = "TiM 4 Image to image"
INPAINTING = "TiM 5 Inpainting"
CLASSES = "TiM 6 Classes instead of text"
OFFICIAL_TEXT = "TiM 7 Official text model, needs downloads"
OFFICIAL_CLASSES = "TiM 8 Official class models, needs downloads"
BESIDE_SAMPLERS = "TiM beside accelerated samplers"
BESIDE_MODELS = "TiM beside SD3.5 Turbo and FLUX.1 schnell, needs downloads"

WITH_TEXT_DEMO = [TEXT_TO_IMAGE, STEP_SWEEP, DRAFTS, IMAGE_TO_IMAGE, INPAINTING]
DEMOS = [*WITH_TEXT_DEMO, CLASSES, BESIDE_SAMPLERS]
WITH_DOWNLOADS = [OFFICIAL_TEXT, OFFICIAL_CLASSES, BESIDE_MODELS]


def workflow_file(name: str) -> Path:
    """A template as the browser opens it."""
    return FOLDER / f"{name}.json"


def prompt_file(name: str) -> Path:
    """A template in API format."""
    return FOLDER / "api" / f"{name}.json"


def thumbnail_file(name: str) -> Path:
    return FOLDER / f"{name}.jpg"


def read_workflow(name: str) -> dict[str, Any]:
    return json.loads(workflow_file(name).read_text(encoding="utf-8"))


def read_prompt(name: str) -> dict[str, Any]:
    return json.loads(prompt_file(name).read_text(encoding="utf-8"))
