"""Guidance inside an interval of times, as a GUIDER."""

from __future__ import annotations

from comfy_api.latest import io

from .aliases import search_aliases
from .host.guider import build_guider
from .host.model import tim_model_of

CFG_TOOLTIP = "Guidance scale. 1 turns guidance off and halves the time."
LOW_TOOLTIP = "Steps that start above this time are guided; times run from 1 (noise) to 0 (image)."
HIGH_TOOLTIP = (
    "Steps that start below this time are guided. At 1 the first step, which starts at exactly 1, is not guided, as in "
    "the published results; above 1 it is, as the stock samplers do."
)


def guidance_inputs() -> list:
    """The guidance widgets, the same on all nodes."""
    return [
        io.Float.Input("cfg", default=2.5, min=1.0, max=100.0, step=0.1, round=0.01, tooltip=CFG_TOOLTIP),
        io.Float.Input("guidance_low", default=0.0, min=-1.0, max=1.0, step=0.01, tooltip=LOW_TOOLTIP),
        io.Float.Input("guidance_high", default=1.0, min=0.0, max=2.0, step=0.01, tooltip=HIGH_TOOLTIP),
    ]


class TiMGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMGuider",
            display_name="TiM Guider",
            category="TiM",
            **search_aliases("transition model", "cfg", "guidance interval"),
            description="Guidance inside an interval of times, for SamplerCustomAdvanced.",
            inputs=[
                io.Model.Input("model", tooltip="TiM model."),
                io.Conditioning.Input("positive", tooltip="Prompt or class."),
                io.Conditioning.Input("negative", tooltip="Negative prompt; unused where guidance is off."),
                *guidance_inputs(),
            ],
            outputs=[io.Guider.Output(tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model, positive, negative, cfg, guidance_low, guidance_high) -> io.NodeOutput:
        tim_model_of(model)
        return io.NodeOutput(build_guider(model, positive, negative, cfg, guidance_low, guidance_high))
