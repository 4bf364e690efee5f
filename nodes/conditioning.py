"""TiM Class."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..tim_model.network.labels import label_index
from .aliases import search_aliases
from .host.model import tim_model_of
from .run.keys import LABEL


def class_conditioning(label: int) -> list:
    """CONDITIONING of one label; in place of text features it has a single 1, which Zero Out turns into 0."""
    return [[torch.ones(1, 1, 1), {LABEL: torch.tensor([label])}]]


class TiMClassConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMClassConditioning",
            display_name="TiM Class",
            category="TiM",
            **search_aliases("transition model", "class label", "imagenet"),
            description="Conditioning of a class-conditioned TiM model: the class, and no class for guidance.",
            inputs=[
                io.Model.Input("model", tooltip="Class-conditioned TiM model."),
                io.String.Input(
                    "label",
                    default="0",
                    tooltip="Number of the class, from 0, or its name where the model has names.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="The class."),
                io.Conditioning.Output(display_name="negative", tooltip='The "no class" label, for guidance.'),
            ],
        )

    @classmethod
    def execute(cls, model, label: str) -> io.NodeOutput:
        tim = tim_model_of(model)
        if tim.params.num_classes is None:
            raise ValueError("this TiM model knows text, not classes: connect a text encoder instead of TiM Class")
        index = label_index(label, tim.params.num_classes, tim.class_names)
        return io.NodeOutput(class_conditioning(index), class_conditioning(tim.params.num_classes))
