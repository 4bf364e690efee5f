"""Nodes that load files."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io

from .model import load_model

BUNDLED = Path(__file__).parent.parent / "models"  # demo models that ship with the pack
WEIGHT_DTYPES = {"default": None, "bf16": torch.bfloat16, "fp32": torch.float32}

for folder in BUNDLED.iterdir():
    if folder.is_dir():
        folder_paths.add_model_folder_path(folder.name, str(folder))


class TiMModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TiMModelLoader",
            display_name="Load TiM Model",
            category="TiM",
            description="Loads a TiM checkpoint as a MODEL that stock samplers, LoRA and merge nodes work on.",
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=folder_paths.get_filename_list("diffusion_models"),
                    tooltip="TiM checkpoint in models/diffusion_models, or a demo that ships with this pack: "
                    ".safetensors, or .bin as published. The architecture is read from its shapes.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    tooltip="Precision of the weights in memory: default lets the host choose, bf16 halves the memory "
                    "of fp32.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="TiM model for KSampler (euler), TiM Sampler, LoRA and merge nodes.")],
        )

    @classmethod
    def execute(cls, model_name: str, weight_dtype: str) -> io.NodeOutput:
        path = folder_paths.get_full_path_or_raise("diffusion_models", model_name)
        return io.NodeOutput(load_model(path, WEIGHT_DTYPES[weight_dtype]))
