"""All templates by their names."""

from __future__ import annotations

from collections.abc import Callable

from devtools.templates import names
from devtools.templates.classes import classes, official_classes
from devtools.templates.demo import drafts_and_refine, step_sweep, text_to_image
from devtools.templates.edits import image_to_image, inpainting
from devtools.templates.graph import Graph
from devtools.templates.official import official_text
from devtools.templates.peers import beside_models, beside_samplers

GRAPHS: dict[str, Callable[[], Graph]] = {
    names.TEXT_TO_IMAGE: text_to_image,
    names.STEP_SWEEP: step_sweep,
    names.DRAFTS: drafts_and_refine,
    names.IMAGE_TO_IMAGE: image_to_image,
    names.INPAINTING: inpainting,
    names.CLASSES: classes,
    names.BESIDE_SAMPLERS: beside_samplers,
    names.OFFICIAL_TEXT: official_text,
    names.OFFICIAL_CLASSES: official_classes,
    names.BESIDE_MODELS: beside_models,
}
